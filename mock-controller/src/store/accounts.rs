//! Cloud accounts (`reference/aviatrix-controller-api.md` section 6.3): AWS alone, because only its wire form is
//! documented there. Access keys are taken and forgotten: nothing here could use them.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::Store;

const MAX_ACCOUNTS: usize = 10_000;

/// The vendor's number for AWS.
pub const AWS: u32 = 1;

/// An account, as it is listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    pub name: String,
    pub account_number: String,
    /// Empty when the account has access keys instead of roles.
    pub role_arn: String,
    pub role_ec2: String,
}

/// Why an account is not taken or given up. Clients look for `already exists`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("Account {0} already exists; choose another name or edit it")]
    AlreadyExists(String),
    #[error("Account {0} does not exist; create it with setup_account_profile")]
    NotFound(String),
    #[error(
        "this controller holds at most {} accounts: delete some first",
        MAX_ACCOUNTS
    )]
    Full,
    #[error("Account {account} is in use by gateway {gateway}; delete the gateway first")]
    InUse { account: String, gateway: String },
}

/// The accounts, by name.
pub type Accounts = BTreeMap<String, Account>;

impl Account {
    /// An entry of `account_list`.
    pub fn to_wire(&self) -> Value {
        json!({
            "account_name": self.name,
            "cloud_type": AWS,
            "account_number": self.account_number,
            "aws_role_arn": self.role_arn,
            "aws_role_ec2": self.role_ec2,
        })
    }
}

impl Store {
    pub fn accounts(&self) -> impl Iterator<Item = &Account> {
        self.accounts.values()
    }

    pub fn create_account(&mut self, account: Account) -> Result<(), Error> {
        if self.accounts.contains_key(&account.name) {
            return Err(Error::AlreadyExists(account.name));
        }
        if self.accounts.len() >= MAX_ACCOUNTS {
            return Err(Error::Full);
        }
        self.accounts.insert(account.name.clone(), account);
        Ok(())
    }

    pub fn edit_account(
        &mut self,
        name: &str,
        change: impl FnOnce(&mut Account),
    ) -> Result<(), Error> {
        let account = self.accounts.get_mut(name);
        change(account.ok_or_else(|| Error::NotFound(name.to_owned()))?);
        Ok(())
    }

    /// Gives up an account that no gateway was made in.
    pub fn delete_account(&mut self, name: &str) -> Result<(), Error> {
        if let Some(gateway) = self
            .spoke_gateways
            .values()
            .find(|gateway| gateway.account == name)
        {
            return Err(Error::InUse {
                account: name.to_owned(),
                gateway: gateway.name.clone(),
            });
        }
        let removed = self.accounts.remove(name);
        removed
            .map(drop)
            .ok_or_else(|| Error::NotFound(name.to_owned()))
    }
}
