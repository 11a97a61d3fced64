//! Client of the firewall's controller, over the vendor's HTTP API (reference: aviatrix-controller-api.md sections 1
//! to 4).
//!
//! Written from that page alone, on purpose not shared with what serves the API: a real controller takes its place by
//! its address. It logs in with an api token as the vendor's provider does, and once more when its session expired.
//! What the objects mean is the caller's affair.

use reqwest::Method;
use reqwest::header::AUTHORIZATION;
use reqwest::multipart::Form;
use serde_json::{Map, Value, json};
use tokio::sync::RwLock;
use uuid::Uuid;

/// What went wrong between the harness and the controller.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The harness could not make itself a client; nothing was asked.
    #[error(
        "the harness has no HTTP client for the firewall's controller: {0}; check what is to verify the controller's \
         certificate"
    )]
    Client(#[source] reqwest::Error),
    /// No HTTP answer at all.
    #[error("the firewall's controller does not answer {call}: {source}")]
    Transport {
        /// Method and path, or action.
        call: String,
        /// What the HTTP client saw.
        source: reqwest::Error,
    },
    /// The controller refused, in its own words.
    #[error("the firewall's controller refused {call}: {reason}")]
    Refused {
        /// Method and path, or action.
        call: String,
        /// `message`, or `reason`, of the answer.
        reason: String,
    },
    /// An answer without what the reference says is in it.
    #[error("the firewall's controller answered {call} without {expected}: {answer}")]
    Unexpected {
        /// Method and path, or action.
        call: String,
        /// What should have been there.
        expected: &'static str,
        /// The answer.
        answer: Value,
    },
}

/// Where a controller is, and who we are to it.
#[derive(Clone, Debug)]
pub struct Account {
    /// `https://<address>`, without a path.
    pub base: String,
    /// The user.
    pub username: String,
    /// Its password.
    pub password: String,
}

/// A server that is to have the gateways' log, from every gateway (section 6.1).
#[derive(Clone, Copy, Debug)]
pub struct RemoteSyslog<'a> {
    /// 0 to 9, of which the vendor reserves 9 for CoPilot.
    pub index: u8,
    /// Its name.
    pub name: &'a str,
    /// Host name or address.
    pub server: &'a str,
    /// A number.
    pub port: &'a str,
    /// `UDP` or `TCP`.
    pub protocol: &'a str,
}

/// A session with one controller. Calls may run side by side.
#[derive(Debug)]
pub struct VendorApi {
    http: reqwest::Client,
    account: Account,
    cid: RwLock<String>,
}

impl VendorApi {
    /// Logs in. `trust` verifies the controller's certificate.
    ///
    /// # Errors
    /// When the controller does not answer or refuses the account.
    pub async fn login(account: Account, trust: rustls::ClientConfig) -> Result<Self, Error> {
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(trust)
            .no_proxy()
            .build()
            .map_err(Error::Client)?;
        let api = Self {
            http,
            account,
            cid: RwLock::default(),
        };
        api.log_in_again("").await?;
        Ok(api)
    }

    /// Reads an object or a collection; `path` is what follows `/v2.5/api/`.
    ///
    /// # Errors
    /// [`Error::Refused`] for what does not exist, too.
    pub async fn get(&self, path: &str) -> Result<Value, Error> {
        self.rest(Method::GET, path, None).await
    }

    /// Creates an object.
    ///
    /// # Errors
    /// When the controller refuses it.
    pub async fn post(&self, path: &str, body: &Value) -> Result<Value, Error> {
        self.rest(Method::POST, path, Some(body)).await
    }

    /// Replaces an object.
    ///
    /// # Errors
    /// When the controller refuses it.
    pub async fn put(&self, path: &str, body: &Value) -> Result<(), Error> {
        self.rest(Method::PUT, path, Some(body)).await.map(drop)
    }

    /// Deletes an object.
    ///
    /// # Errors
    /// When it does not exist or is in use.
    pub async fn delete(&self, path: &str) -> Result<(), Error> {
        self.rest(Method::DELETE, path, None).await.map(drop)
    }

    /// Creates a SmartGroup or a WebGroup; its uuid.
    ///
    /// # Errors
    /// When the controller refuses it.
    pub async fn create_group(&self, group: &Value) -> Result<Uuid, Error> {
        let answer = self.post("app-domains", group).await?;
        let uuid = answer["uuid"].as_str().and_then(|uuid| uuid.parse().ok());
        uuid.ok_or_else(|| Error::Unexpected {
            call: "POST app-domains".to_owned(),
            expected: "a uuid",
            answer,
        })
    }

    /// Switches a feature.
    ///
    /// # Errors
    /// When the controller does not have it.
    pub async fn set_feature(&self, feature: &str, enabled: bool) -> Result<(), Error> {
        let action = if enabled {
            "enable_controller_feature"
        } else {
            "disable_controller_feature"
        };
        self.json_action(action, json!({"feature": feature}))
            .await
            .map(drop)
    }

    /// Whether a feature is on. An unknown one reads as off.
    ///
    /// # Errors
    /// When the controller does not answer as documented.
    pub async fn feature(&self, feature: &str) -> Result<bool, Error> {
        let action = "get_controller_feature";
        let answer = self
            .json_action(action, json!({"feature": feature}))
            .await?;
        answer["enabled"]
            .as_bool()
            .ok_or_else(|| Error::Unexpected {
                call: action.to_owned(),
                expected: "enabled",
                answer,
            })
    }

    /// An action of `/v2/api` that reads: its parameters in the query. Returns `results`.
    ///
    /// # Errors
    /// When the controller refuses it.
    pub async fn read_action(
        &self,
        action: &str,
        parameters: &[(&str, &str)],
    ) -> Result<Value, Error> {
        self.legacy(action, |cid| {
            let own = [("action", action), ("CID", cid)];
            self.http
                .get(self.legacy_url())
                .query(&[&own, parameters].concat())
        })
        .await
    }

    /// An action of `/v2/api` that writes: its parameters as a form. Returns `results`.
    ///
    /// # Errors
    /// When the controller refuses it.
    pub async fn form_action(
        &self,
        action: &str,
        parameters: &[(&str, &str)],
    ) -> Result<Value, Error> {
        self.legacy(action, |cid| {
            let own = [("action", action), ("CID", cid)];
            self.http
                .post(self.legacy_url())
                .form(&[&own, parameters].concat())
        })
        .await
    }

    /// An action of `/v2/api` whose parameters are the parts of a multipart form. Returns `results`.
    ///
    /// # Errors
    /// When the controller refuses it.
    pub async fn multipart_action(
        &self,
        action: &str,
        parts: &[(&str, &str)],
    ) -> Result<Value, Error> {
        self.legacy(action, |cid| {
            let form = Form::new()
                .text("action", action.to_owned())
                .text("CID", cid.to_owned());
            let form = parts.iter().fold(form, |form, (name, text)| {
                form.text((*name).to_owned(), (*text).to_owned())
            });
            self.http.post(self.legacy_url()).multipart(form)
        })
        .await
    }

    /// Sends the gateways' log to one server more.
    ///
    /// # Errors
    /// When the controller refuses it, as it does for an index that is in use.
    pub async fn enable_remote_syslog(&self, syslog: &RemoteSyslog<'_>) -> Result<(), Error> {
        let index = syslog.index.to_string();
        let parts = [
            ("index", &*index),
            ("name", syslog.name),
            ("server", syslog.server),
            ("port", syslog.port),
            ("protocol", syslog.protocol),
            ("template", ""),
            ("exclude_gateway_list", ""),
        ];
        self.multipart_action("enable_remote_syslog_logging", &parts)
            .await
            .map(drop)
    }

    async fn json_action(&self, action: &str, parameters: Value) -> Result<Value, Error> {
        self.legacy(action, |cid| {
            let mut body = Map::from_iter([
                ("CID".to_owned(), cid.into()),
                ("action".to_owned(), action.into()),
            ]);
            body.extend(parameters.as_object().cloned().unwrap_or_default());
            self.http.post(self.legacy_url()).json(&body)
        })
        .await
    }

    /// Sends, and once more after another login if the session had expired (section 1.4).
    async fn legacy(
        &self,
        action: &str,
        request: impl Fn(&str) -> reqwest::RequestBuilder,
    ) -> Result<Value, Error> {
        let cid = self.cid.read().await.clone();
        match self.legacy_once(action, request(&cid)).await {
            Err(Error::Refused { reason, .. })
                if reason.contains("CID is invalid")
                    || reason.contains("Invalid session. Please login again.") =>
            {
                self.log_in_again(&cid).await?;
                let cid = self.cid.read().await.clone();
                self.legacy_once(action, request(&cid)).await
            }
            other => other,
        }
        .map(|mut answer| answer["results"].take())
    }

    async fn legacy_once(
        &self,
        action: &str,
        request: reqwest::RequestBuilder,
    ) -> Result<Value, Error> {
        let transport = |source| Error::Transport {
            call: action.to_owned(),
            source,
        };
        let answer = request.send().await.map_err(transport)?;
        let answer = answer.bytes().await.map_err(transport)?;
        let answer = parse(action, &answer)?;
        if answer["return"] == true {
            return Ok(answer);
        }
        Err(Error::Refused {
            call: action.to_owned(),
            reason: answer["reason"]
                .as_str()
                .unwrap_or("it gave no reason")
                .to_owned(),
        })
    }

    async fn rest(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value, Error> {
        let cid = self.cid.read().await.clone();
        match self.rest_once(&method, path, body, &cid).await {
            Err(Error::Refused { reason, .. }) if reason.contains("Invalid CID") => {
                self.log_in_again(&cid).await?;
                let cid = self.cid.read().await.clone();
                self.rest_once(&method, path, body, &cid).await
            }
            other => other,
        }
    }

    async fn rest_once(
        &self,
        method: &Method,
        path: &str,
        body: Option<&Value>,
        cid: &str,
    ) -> Result<Value, Error> {
        let call = || format!("{method} {path}");
        let transport = |source| Error::Transport {
            call: call(),
            source,
        };
        let mut request = self
            .http
            .request(
                method.clone(),
                format!("{}/v2.5/api/{path}", self.account.base),
            )
            .header(AUTHORIZATION, format!("cid {cid}"));
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await.map_err(transport)?;
        let status = response.status();
        let body = response.bytes().await.map_err(transport)?;
        if status.is_success() {
            // The answer to a write may be empty.
            return match body.is_empty() {
                true => Ok(Value::Null),
                false => parse(&call(), &body),
            };
        }
        let answer: Option<Value> = serde_json::from_slice(&body).ok();
        let message = answer.as_ref().and_then(|own| own["message"].as_str());
        let reason = message.map_or_else(|| excerpt(&body), str::to_owned);
        Err(Error::Refused {
            call: call(),
            reason: format!("HTTP {}: {reason}", status.as_u16()),
        })
    }

    /// Replaces the session `expired`, unless another call has done so in the meantime.
    async fn log_in_again(&self, expired: &str) -> Result<(), Error> {
        let mut cid = self.cid.write().await;
        if *cid != expired {
            return Ok(());
        }
        let token = self.http.get(self.legacy_url());
        let token = token.form(&[("action", "get_api_token"), ("log_enable", "true")]);
        let answer = self.legacy_once("get_api_token", token).await?;
        let Some(token) = answer["results"]["api_token"].as_str() else {
            return Err(Error::Unexpected {
                call: "get_api_token".to_owned(),
                expected: "api_token",
                answer,
            });
        };
        let login = self
            .http
            .post(self.legacy_url())
            .header("X-Access-Key", token)
            .form(&[
                ("action", "login"),
                ("username", &self.account.username),
                ("password", &self.account.password),
            ]);
        let answer = self.legacy_once("login", login).await?;
        match answer["CID"].as_str() {
            Some(new) => new.clone_into(&mut cid),
            None => {
                return Err(Error::Unexpected {
                    call: "login".to_owned(),
                    expected: "CID",
                    answer,
                });
            }
        }
        Ok(())
    }

    fn legacy_url(&self) -> String {
        format!("{}/v2/api", self.account.base)
    }
}

fn parse(call: &str, body: &[u8]) -> Result<Value, Error> {
    serde_json::from_slice(body).map_err(|_| Error::Unexpected {
        call: call.to_owned(),
        expected: "JSON",
        answer: excerpt(body).into(),
    })
}

/// The beginning of an answer that may be a page of a proxy.
fn excerpt(body: &[u8]) -> String {
    const CHARACTERS: usize = 200;
    String::from_utf8_lossy(body)
        .chars()
        .take(CHARACTERS)
        .collect()
}

#[cfg(test)]
mod tests;
