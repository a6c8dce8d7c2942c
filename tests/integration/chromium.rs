//! Chromium, told what to do by its DevTools protocol, through pipes.
//!
//! With `IMPASTO_SCREENSHOTS=FOLDER` pictures of pages are kept there.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use base64::prelude::{BASE64_STANDARD, Engine};
use serde_json::{Value, json};

/// How long anything may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// A browser with one page.
pub struct Browser {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
    /// Of the page.
    session: Option<String>,
    calls: u64,
    /// What the page complained about.
    pub complaints: Vec<Value>,
    _profile: tempfile::TempDir,
}

impl Browser {
    pub fn start() -> Self {
        let profile = tempfile::tempdir().unwrap();
        // The protocol goes through descriptors 3 and 4, a message ends with a zero.
        let launch = "exec chromium --headless=new --no-sandbox --disable-gpu --remote-debugging-pipe \
                      --user-data-dir=\"$0\" about:blank 3<&0 4>&1 0</dev/null 1>&2";
        let mut child = Command::new("sh")
            .args(["-c", launch])
            .arg(profile.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut browser = Self {
            to: child.stdin.take().unwrap(),
            from: BufReader::new(child.stdout.take().unwrap()),
            child,
            session: None,
            calls: 0,
            complaints: Vec::new(),
            _profile: profile,
        };
        let target = browser.call("Target.createTarget", json!({"url": "about:blank"}));
        let parameters = json!({"targetId": target["targetId"], "flatten": true});
        let attached = browser.call("Target.attachToTarget", parameters);
        browser.session = Some(attached["sessionId"].as_str().unwrap().to_string());
        browser.call("Emulation.setScrollbarsHidden", json!({"hidden": true}));
        for domain in ["Page", "Runtime", "Log", "DOM"] {
            browser.call(&format!("{domain}.enable"), json!({}));
        }
        browser
    }

    /// Calls a method of the protocol.
    pub fn call(&mut self, method: &str, parameters: Value) -> Value {
        let answer = self.ask(method, parameters);
        answer.unwrap_or_else(|error| panic!("{method}: {error}"))
    }

    /// The answer to a call, or the error.
    fn ask(&mut self, method: &str, parameters: Value) -> Result<Value, Value> {
        self.calls += 1;
        let mut message = json!({"id": self.calls, "method": method, "params": parameters});
        if let Some(session) = &self.session {
            message["sessionId"] = json!(session);
        }
        self.to
            .write_all(format!("{message}\0").as_bytes())
            .expect("Chromium is needed: apt-get install chromium");
        loop {
            let mut text = Vec::new();
            self.from.read_until(0, &mut text).unwrap();
            let text = text.strip_suffix(&[0]).expect("Chromium has ended");
            let answer: Value = serde_json::from_slice(text).unwrap();
            if answer["id"] == self.calls {
                return match answer["error"].clone() {
                    Value::Null => Ok(answer["result"].clone()),
                    error => Err(error),
                };
            }
            let is_error = answer["params"]["entry"]["level"] == "error";
            if answer["method"] == "Runtime.exceptionThrown" || is_error {
                self.complaints.push(answer["params"].clone());
            }
        }
    }

    /// The value of an expression in the page.
    pub fn evaluate(&mut self, expression: &str) -> Value {
        let found = self.call("Runtime.evaluate", evaluation(expression));
        let thrown = &found["exceptionDetails"];
        assert!(thrown.is_null(), "{expression}: {thrown}");
        found["result"]["value"].clone()
    }

    /// Waits until an expression is true, on whatever page there is by then.
    pub fn wait(&mut self, expression: &str) {
        let began = Instant::now();
        let asked = format!("(async () => Boolean(await ({expression})))()");
        let is_true =
            |found: Result<Value, Value>| found.is_ok_and(|found| found["result"]["value"] == true);
        while !is_true(self.ask("Runtime.evaluate", evaluation(&asked))) {
            if began.elapsed() > PATIENCE {
                let page = self.evaluate("document.body.innerText");
                panic!("{expression}\n{page}\n{:?}", self.complaints);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Opens a page of the studio, which says that it works in a text that begins with these words.
    pub fn open(&mut self, address: &str, works: &str) {
        self.call("Page.navigate", json!({"url": address}));
        self.wait(&format!(
            "document.readyState === 'complete' &&
                document.querySelector('#connection').textContent.startsWith('{works}')"
        ));
    }

    /// Chooses files, as dropping them does.
    pub fn choose(&mut self, selector: &str, paths: &[&Path]) {
        let document = self.call("DOM.getDocument", json!({}));
        let parameters = json!({"nodeId": document["root"]["nodeId"], "selector": selector});
        let found = self.call("DOM.querySelector", parameters);
        let parameters = json!({"files": paths, "nodeId": found["nodeId"]});
        self.call("DOM.setFileInputFiles", parameters);
    }

    /// Sets a field as a user does.
    pub fn set(&mut self, selector: &str, value: &str) {
        self.evaluate(&format!(
            "{{ const field = document.querySelector('{selector}'); field.value = '{value}';
               field.dispatchEvent(new Event('input', {{bubbles: true}}));
               field.dispatchEvent(new Event('change', {{bubbles: true}})); }}"
        ));
    }

    /// Presses the button with these words.
    pub fn press(&mut self, words: &str) {
        let button = format!(
            "[...document.querySelectorAll('button')].find((one) => one.textContent === '{words}')"
        );
        self.wait(&button);
        self.evaluate(&format!("{button}.click()"));
    }

    /// Presses a key.
    pub fn key(&mut self, key: &str) {
        let text = if key.len() == 1 { key } else { "" };
        for kind in ["keyDown", "keyUp"] {
            let parameters = json!({"type": kind, "key": key, "text": text});
            self.call("Input.dispatchKeyEvent", parameters);
        }
    }

    pub fn resize(&mut self, width: u32, height: u32) {
        let parameters =
            json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        self.call("Emulation.setDeviceMetricsOverride", parameters);
    }

    pub fn set_dark(&mut self, dark: bool) {
        let value = if dark { "dark" } else { "light" };
        let feature = json!({"name": "prefers-color-scheme", "value": value});
        self.call("Emulation.setEmulatedMedia", json!({"features": [feature]}));
    }

    /// Keeps a picture of the page, where they are wanted.
    pub fn screenshot(&mut self, name: &str) {
        let Some(folder) = std::env::var_os("IMPASTO_SCREENSHOTS") else {
            return;
        };
        let shot = self.call(
            "Page.captureScreenshot",
            json!({"format": "png", "captureBeyondViewport": true}),
        );
        let bytes = BASE64_STANDARD.decode(shot["data"].as_str().unwrap());
        let bytes = bytes.unwrap();
        std::fs::write(Path::new(&folder).join(format!("{name}.png")), bytes).unwrap();
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What `Runtime.evaluate` is told.
fn evaluation(expression: &str) -> Value {
    json!({"expression": expression, "awaitPromise": true, "returnByValue": true})
}
