//! The Rust client kube-rs (crate kube) as a driver; see driver_client.py.
//! Arguments: kubeconfig, namespace.
use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::time::Duration;

use futures::{AsyncBufReadExt, StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::{ConfigMap, Node, Pod};
use kube::api::{
    Api, AttachParams, DeleteParams, ListParams, LogParams, Patch, PatchParams, PostParams,
    WatchEvent, WatchParams,
};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::{WatchStreamExt, reflector, watcher};
use kube::{Client, Config, ResourceExt};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt, AsyncWriteExt, BufReader, Lines, Stdin};
use tokio::time::timeout;

type Broken = Box<dyn Error + Send + Sync>;
type Done = Result<(), Broken>;

const LIMIT: Duration = Duration::from_secs(60);
const OPERATIONS: &[&str] = &[
    "get-json", "selectors", "pagination", "watch", "informer", "informer-restart", "create",
    "replace", "patch", "apply-server", "delete-collection", "logs", "logs-follow", "exec",
    "exec-stdin", "exec-large", "port-forward", "api-resources", "error-404", "error-409",
    "error-422", "by-path", "by-host", "by-token", "static-token",
];

/// The steps of one operation.
#[derive(Default)]
struct Notes(Vec<Value>);

impl Notes {
    fn note(&mut self, step: &str, output: Value, code: u16, errors: String) {
        let text = match output {
            Value::String(text) => text,
            // serde_json's maps are ordered by their keys.
            other => serde_json::to_string_pretty(&other).unwrap_or_default(),
        };
        self.0.push(json!({"step": step, "code": code, "output": text, "errors": errors}));
    }

    fn told(&mut self, step: &str, output: Value) {
        self.note(step, output, 0, String::new());
    }

    /// Note an answer, or the API server's error; other errors break the operation.
    fn call<T: serde::Serialize>(&mut self, step: &str, answer: kube::Result<T>) -> Result<Option<T>, Broken> {
        match answer {
            Ok(found) => {
                self.told(step, serde_json::to_value(&found)?);
                Ok(Some(found))
            }
            Err(kube::Error::Api(status)) => {
                self.note(step, json!(""), status.code, serde_json::to_string_pretty(&serde_json::to_value(&*status)?)?);
                Ok(None)
            }
            Err(other) => Err(other.into()),
        }
    }
}

struct Driver {
    client: Client,
    namespace: String,
    lines: Lines<BufReader<Stdin>>,
}

fn config_map(name: &str, sky: &str) -> ConfigMap {
    serde_json::from_value(json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": name, "labels": {"app": name}}, "data": {"sky": sky},
    }))
    .expect("a ConfigMap")
}

fn labelled(app: &str) -> ListParams {
    ListParams::default().labels(&format!("app={app}"))
}

fn said(kind: &str, found: &ConfigMap) -> Value {
    json!([kind, found.name_any(), found.data])
}

impl Driver {
    fn maps(&self) -> Api<ConfigMap> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    async fn get_json(&self, n: &mut Notes) -> Done {
        n.call("read", self.pods().get("quiet").await)?;
        n.call("list", self.pods().list(&ListParams::default()).await)?;
        n.call("node", Api::<Node>::all(self.client.clone()).get("lab-node").await)?;
        Ok(())
    }

    async fn selectors(&self, n: &mut Notes) -> Done {
        for (step, chosen) in [
            ("labels", ListParams::default().labels("app in (web)")),
            ("fields", ListParams::default().fields("metadata.name=quiet")),
            ("nonsense", ListParams::default().fields("nonsense=1")),
        ] {
            n.call(step, self.pods().list(&chosen).await)?;
        }
        Ok(())
    }

    async fn pagination(&self, n: &mut Notes) -> Done {
        for number in 0..7 {
            let mut made = config_map("pages", "blue");
            made.metadata.name = Some(format!("page-{number}"));
            self.maps().create(&PostParams::default(), &made).await?;
        }
        let mut chosen = labelled("pages").limit(3);
        loop {
            let page = self.maps().list(&chosen).await?;
            n.told("page", json!(page.iter().map(|found| found.name_any()).collect::<Vec<_>>()));
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => chosen = chosen.continue_token(&token),
                None => break,
            }
        }
        self.maps().delete_collection(&DeleteParams::default(), &labelled("pages")).await?;
        Ok(())
    }

    /// Make, change and delete an object.
    async fn changes(&self, name: &str) -> Done {
        self.maps().create(&PostParams::default(), &config_map(name, "blue")).await?;
        let grey = Patch::Merge(json!({"data": {"sky": "grey"}}));
        self.maps().patch(name, &PatchParams::default(), &grey).await?;
        self.maps().delete(name, &DeleteParams::default()).await?;
        Ok(())
    }

    async fn watch(&self, n: &mut Notes) -> Done {
        let first = self.maps().list(&labelled("seen")).await?;
        self.changes("seen").await?;
        let version = first.metadata.resource_version.unwrap_or_default();
        let chosen = WatchParams::default().labels("app=seen").timeout(20);
        let mut events = self.maps().watch(&chosen, &version).await?.boxed();
        while let Some(event) = events.try_next().await? {
            match event {
                WatchEvent::Added(found) => n.told("event", said("added", &found)),
                WatchEvent::Modified(found) => n.told("event", said("modified", &found)),
                WatchEvent::Deleted(found) => {
                    n.told("event", said("deleted", &found));
                    break;
                }
                WatchEvent::Bookmark(_) => {}
                WatchEvent::Error(status) => return Err(status.into()),
            }
        }
        Ok(())
    }

    async fn informer(&self, n: &mut Notes) -> Done {
        let chosen = watcher::Config::default().labels("app=informed");
        let mut events = watcher(self.maps(), chosen).default_backoff().boxed();
        while let Some(event) = events.try_next().await? {
            match event {
                watcher::Event::InitDone => self.changes("informed").await?,
                watcher::Event::Apply(found) => n.told("event", said("applied", &found)),
                watcher::Event::Delete(found) => {
                    n.told("event", said("deleted", &found));
                    break;
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// A reflector, as controllers have it, lives through the agent's restart.
    async fn informer_restart(&mut self, n: &mut Notes) -> Done {
        let (store, writer) = reflector::store::<ConfigMap>();
        let chosen = watcher::Config::default().labels("app=lasting");
        let stream = reflector(writer, watcher(self.maps(), chosen)).default_backoff();
        // An error is told and tried again by the stream itself.
        let follower = tokio::spawn(async move { stream.for_each(|_| async {}).await });
        let known = || -> BTreeMap<String, Value> {
            store.state().iter().map(|found| (found.name_any(), json!(found.data))).collect()
        };
        timeout(LIMIT, store.wait_until_ready()).await??;
        until("the informer's first list", || known().len() == 3).await?;
        println!("{}", json!({"ready": true}));
        self.lines.next_line().await?;
        until("what happened after the restart", || known().contains_key("last")).await?;
        n.told("known", json!(known()));
        n.told("names", json!(known().into_keys().collect::<BTreeSet<_>>()));
        follower.abort();
        Ok(())
    }

    async fn create(&self, n: &mut Notes) -> Done {
        n.call("create", self.maps().create(&PostParams::default(), &config_map("made", "blue")).await)?;
        n.call("read", self.maps().get("made").await)?;
        self.maps().delete("made", &DeleteParams::default()).await?;
        Ok(())
    }

    async fn replace(&self, n: &mut Notes) -> Done {
        let mut made = self.maps().create(&PostParams::default(), &config_map("made", "blue")).await?;
        made.data = Some([("sky".to_owned(), "grey".to_owned())].into());
        n.call("replace", self.maps().replace("made", &PostParams::default(), &made).await)?;
        n.call("stale", self.maps().replace("made", &PostParams::default(), &made).await)?;
        self.maps().delete("made", &DeleteParams::default()).await?;
        Ok(())
    }

    async fn patch(&self, n: &mut Notes) -> Done {
        self.maps().create(&PostParams::default(), &config_map("made", "blue")).await?;
        let asked = PatchParams::default();
        let grey = json!({"data": {"sky": "grey"}});
        n.call("merge", self.maps().patch("made", &asked, &Patch::Merge(&grey)).await)?;
        n.call("strategic", self.maps().patch("made", &asked, &Patch::Strategic(&grey)).await)?;
        self.maps().delete("made", &DeleteParams::default()).await?;
        Ok(())
    }

    async fn apply_server(&self, n: &mut Notes) -> Done {
        for (step, sky, manager, force) in [
            ("apply", "blue", "one", false),
            ("conflict", "grey", "other", false),
            ("force", "grey", "other", true),
        ] {
            let asked = PatchParams { force, ..PatchParams::apply(manager) };
            let wanted = Patch::Apply(config_map("applied", sky));
            n.call(step, self.maps().patch("applied", &asked, &wanted).await)?;
        }
        self.maps().delete("applied", &DeleteParams::default()).await?;
        Ok(())
    }

    async fn delete_collection(&self, n: &mut Notes) -> Done {
        self.maps().create(&PostParams::default(), &config_map("gone", "blue")).await?;
        let done = self.maps().delete_collection(&DeleteParams::default(), &labelled("gone")).await?;
        n.told("delete", json!(done.is_left()));
        n.call("list", self.maps().list(&labelled("gone")).await)?;
        Ok(())
    }

    async fn logs(&self, n: &mut Notes) -> Done {
        n.call("all", self.pods().logs("quiet", &LogParams::default()).await)?;
        let tail = LogParams { tail_lines: Some(2), ..LogParams::default() };
        n.call("tail", self.pods().logs("quiet", &tail).await)?;
        let absent = LogParams { container: Some("absent".to_owned()), ..LogParams::default() };
        n.call("absent", self.pods().logs("quiet", &absent).await)?;
        Ok(())
    }

    async fn logs_follow(&self, n: &mut Notes) -> Done {
        let asked = LogParams { follow: true, ..LogParams::default() };
        let lines = self.pods().log_stream("web", &asked).await?.lines();
        let ten: Vec<String> = lines.take(10).try_collect().await?;
        n.told("ten lines", json!(ten));
        Ok(())
    }

    async fn execute(&self, n: &mut Notes, step: &str, typed: &str, command: &[&str]) -> Done {
        let asked = AttachParams::default().stdin(!typed.is_empty()).stderr(true);
        let mut running = self.pods().exec("web", command.to_vec(), &asked).await?;
        let mut out = running.stdout().ok_or("no output")?;
        let mut errors = running.stderr().ok_or("no errors")?;
        let status = running.take_status().ok_or("no status")?;
        if let Some(mut stdin) = running.stdin() {
            stdin.write_all(typed.as_bytes()).await?;
            stdin.flush().await?;
        }
        let (mut text, mut complaint) = (String::new(), String::new());
        tokio::try_join!(out.read_to_string(&mut text), errors.read_to_string(&mut complaint))?;
        let ended = status.await;
        running.join().await?;
        n.note(step, json!(text), 0, complaint);
        n.told("status", serde_json::to_value(ended)?);
        Ok(())
    }

    async fn exec(&self, n: &mut Notes) -> Done {
        self.execute(n, "echo", "", &["echo", "hello"]).await?;
        self.execute(n, "exit code", "", &["sh", "-c", "echo broken >&2; exit 7"]).await
    }

    async fn port_forward(&self, n: &mut Notes) -> Done {
        for number in 0..2 {
            let mut forwarder = self.pods().portforward("web", &[8080]).await?;
            let mut stream = forwarder.take_stream(8080).ok_or("no stream")?;
            stream.write_all(b"GET / HTTP/1.0\r\n\r\n").await?;
            let mut text = String::new();
            stream.read_to_string(&mut text).await?;
            forwarder.abort();
            let body = text.split("\r\n\r\n").nth(1).unwrap_or_default();
            n.told(&format!("connection {number}"), json!(body));
        }
        Ok(())
    }

    async fn api_resources(&self, n: &mut Notes) -> Done {
        n.call("version", self.client.apiserver_version().await)?;
        n.call("groups", self.client.list_api_groups().await)?;
        n.call("core", self.client.list_core_api_resources("v1").await)?;
        Ok(())
    }

    async fn absent(&self, n: &mut Notes) -> Done {
        n.call("pod", self.pods().get("absent").await)?;
        Ok(())
    }

    async fn conflict(&self, n: &mut Notes) -> Done {
        let once = config_map("once", "blue");
        self.maps().create(&PostParams::default(), &once).await?;
        n.call("again", self.maps().create(&PostParams::default(), &once).await)?;
        self.maps().delete("once", &DeleteParams::default()).await?;
        Ok(())
    }

    async fn invalid(&self, n: &mut Notes) -> Done {
        n.call("name", self.maps().create(&PostParams::default(), &config_map("Not_A_Name", "")).await)?;
        Ok(())
    }

    async fn small(&self, n: &mut Notes) -> Done {
        n.call("list", self.pods().list(&labelled("quiet")).await)?;
        self.watch(n).await?;
        self.execute(n, "exec", "", &["echo", "hello"]).await?;
        self.absent(n).await
    }

    async fn perform(&mut self, key: &str, n: &mut Notes) -> Done {
        match key {
            "get-json" => self.get_json(n).await,
            "selectors" => self.selectors(n).await,
            "pagination" => self.pagination(n).await,
            "watch" => self.watch(n).await,
            "informer" => self.informer(n).await,
            "informer-restart" => self.informer_restart(n).await,
            "create" => self.create(n).await,
            "replace" => self.replace(n).await,
            "patch" => self.patch(n).await,
            "apply-server" => self.apply_server(n).await,
            "delete-collection" => self.delete_collection(n).await,
            "logs" => self.logs(n).await,
            "logs-follow" => self.logs_follow(n).await,
            "exec" => self.exec(n).await,
            "exec-stdin" => self.execute(n, "head", "one\ntwo\n", &["head", "-n", "2"]).await,
            "exec-large" => self.execute(n, "4 MiB", "", &["sh", "-c", "seq 1 600000"]).await,
            "port-forward" => self.port_forward(n).await,
            "api-resources" => self.api_resources(n).await,
            "error-404" => self.absent(n).await,
            "error-409" => self.conflict(n).await,
            "error-422" => self.invalid(n).await,
            "by-path" | "by-host" | "by-token" | "static-token" => self.small(n).await,
            _ => Err("no such operation".into()),
        }
    }
}

async fn until(what: &str, condition: impl Fn() -> bool) -> Done {
    let reached = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(LIMIT, reached).await.map_err(|_| format!("waited in vain for {what}").into())
}

async fn connect(kubeconfig: &str) -> Result<Client, Broken> {
    let read = Kubeconfig::read_from(kubeconfig)?;
    let config = Config::from_custom_kubeconfig(read, &KubeConfigOptions::default()).await?;
    Ok(Client::try_from(config)?)
}

/// The version of the crate that this was built with.
fn version() -> &'static str {
    let locked = include_str!("../Cargo.lock");
    let after = locked.split("name = \"kube\"\nversion = \"").nth(1).unwrap_or_default();
    after.split('"').next().unwrap_or_default()
}

#[tokio::main]
async fn main() -> Done {
    let words: Vec<String> = std::env::args().collect();
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    println!("{}", json!({"client": format!("kube-rs {}", version()), "operations": OPERATIONS}));
    let Some(mut key) = lines.next_line().await? else { return Ok(()) };
    let client = connect(&words[1]).await?;
    let mut driver = Driver { client, namespace: words[2].clone(), lines };
    loop {
        let mut n = Notes::default();
        let answer = match timeout(LIMIT + LIMIT, driver.perform(key.trim(), &mut n)).await {
            Ok(Ok(())) => json!({"outcomes": n.0}),
            Ok(Err(broken)) => json!({"broken": format!("{broken:?}")}),
            Err(_) => json!({"broken": "took too long"}),
        };
        println!("{answer}");
        match driver.lines.next_line().await? {
            Some(next) => key = next,
            None => return Ok(()),
        }
    }
}
