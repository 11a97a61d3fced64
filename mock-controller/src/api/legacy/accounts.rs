//! Cloud accounts (section 6.3). Another cloud than AWS is refused, because how it is listed is not documented.

use serde_json::{Value, json};

use super::{Call, Refusal};
use crate::store::accounts::{AWS, Account};

pub(super) fn setup(call: &Call<'_>) -> Result<Value, Refusal> {
    aws_only(call, "cloud_type")?;
    let name = call.required("account_name")?;
    let mut account = Account {
        name: name.to_owned(),
        account_number: call.required("aws_account_number")?.to_owned(),
        role_arn: String::new(),
        role_ec2: String::new(),
    };
    take_roles(call, &mut account);
    call.api
        .controller
        .configure(|store| store.create_account(account))
        .map_err(Refusal::because)?;
    Ok(format!("Account {name} is set up").into())
}

/// What is not sent stays, but the access: it is by role or by key, as the call says.
pub(super) fn edit(call: &Call<'_>) -> Result<Value, Refusal> {
    if call.optional("cloud_type").is_some() {
        aws_only(call, "cloud_type")?;
    }
    let name = call.required("account_name")?;
    let change = |account: &mut Account| {
        if let Some(number) = call.optional("aws_account_number") {
            number.clone_into(&mut account.account_number);
        }
        take_roles(call, account);
    };
    call.api
        .controller
        .configure(|store| store.edit_account(name, change))
        .map_err(Refusal::because)?;
    Ok(format!("Account {name} is edited").into())
}

pub(super) fn delete(call: &Call<'_>) -> Result<Value, Refusal> {
    let name = call.required("account_name")?;
    call.api
        .controller
        .configure(|store| store.delete_account(name))
        .map_err(Refusal::because)?;
    Ok(format!("Account {name} is deleted").into())
}

pub(super) fn list(call: &Call<'_>) -> Value {
    let accounts = call
        .api
        .controller
        .read(|store| store.accounts().map(Account::to_wire).collect::<Vec<_>>());
    json!({"account_list": accounts})
}

/// Every account passes: there is no cloud that could refuse it. Clients look for `Pass`.
pub(super) fn audit(call: &Call<'_>) -> Value {
    call.api.controller.read(|store| {
        let record =
            |account: &Account| json!({"account_name": account.name, "status": "Pass", "comment": ""});
        store.accounts().map(record).collect()
    })
}

fn take_roles(call: &Call<'_>, account: &mut Account) {
    let role = |name| call.optional(name).unwrap_or_default().to_owned();
    match call.optional("aws_iam") {
        Some("true") => {
            account.role_arn = role("aws_role_arn");
            account.role_ec2 = role("aws_role_ec2");
        }
        Some(_) => {
            account.role_arn.clear();
            account.role_ec2.clear();
        }
        None => {}
    }
}

pub(super) fn aws_only(call: &Call<'_>, name: &'static str) -> Result<(), Refusal> {
    let cloud = call.required(name)?;
    if cloud.parse() == Ok(AWS) {
        return Ok(());
    }
    Err(Refusal::Unfit {
        name,
        value: cloud.chars().take(64).collect(),
        expected: "1 (AWS), the only cloud of this fake controller",
    })
}
