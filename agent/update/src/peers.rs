//! The other nodes of the cluster, asked for what they have of a release: through this node's agent, which has the
//! certificate for it. Whom to ask for what, [`trilith_core::update::peers`] decides.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Bytes;
use hyper::header::{HOST, RANGE};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use trilith_core::boot::RootHash;
use trilith_core::names::NodeId;
use trilith_core::subject::{Plan, Subject as _};
use trilith_core::update::peers::{
    self, Held, NODES, Neighbour, Node, Nodes, RELEASES, Run, Shared, Step, Want,
};

/// Where the agent listens.
const AGENT: &str = "/run/trilith/agent.sock";
/// How long an answer may take that has nothing of a release in it.
const LIMIT: Duration = Duration::from_secs(5);
/// How long there is between two looks at who is fetching.
const AGAIN: Duration = Duration::from_secs(5);
/// The longest answer that has nothing of a release in it.
const LONGEST: u64 = 1 << 20;
/// For how long another node's fetch is waited for: the source is there as well.
const LONGEST_WAIT: Duration = Duration::from_mins(30);
/// How much is told of another node's words.
const WORDS: usize = 200;

/// The others, and what came of asking them.
#[derive(Debug)]
pub(crate) struct Peers {
    agent: PathBuf,
    me: Cell<Option<NodeId>>,
    neighbours: RefCell<Vec<Neighbour>>,
    fetched: Cell<u64>,
}

/// A stretch that was asked for.
pub(crate) struct Answer {
    pub(crate) node: NodeId,
    pub(crate) run: Run,
    pub(crate) bytes: Result<Bytes>,
}

/// Stretches that are coming.
pub(crate) type Coming = JoinSet<Answer>;

impl Peers {
    pub(crate) fn new() -> Self {
        let (me, neighbours, fetched) = (Cell::default(), RefCell::default(), Cell::default());
        Self { agent: AGENT.into(), me, neighbours, fetched }
    }

    /// How many bytes they have given so far that were right.
    pub(crate) fn fetched(&self) -> u64 {
        self.fetched.get()
    }

    /// Sees who has this release. One that is being fetched by somebody else is waited for, but for no second one after that:
    /// `tell` is told so, and an error of its ends that. Without an agent, or others, there is nobody to ask.
    pub(crate) async fn gather(
        &self,
        root: &RootHash,
        tell: &dyn Fn(&str) -> Result<()>,
    ) -> Result<()> {
        let mut waits: Option<(NodeId, Instant)> = None;
        loop {
            if let Err(error) = self.look().await {
                eprintln!("no other node is asked: {error:#}");
                self.neighbours.borrow_mut().clear();
                return Ok(());
            }
            let any = Run { from: 0, size: 1 };
            let Some(Step::Await(node)) = self.plan(root, vec![any]).steps.pop() else {
                return Ok(());
            };
            let (first, begin) = *waits.get_or_insert_with(|| (node, Instant::now()));
            if node != first || begin.elapsed() > LONGEST_WAIT {
                return Ok(());
            }
            tell(&format!("waiting for {}, which fetches it", self.name(node)))?;
            sleep(AGAIN).await;
        }
    }

    /// Asks everybody near what there is.
    async fn look(&self) -> Result<()> {
        let nodes: Nodes = read(&self.ask(NODES).await?)?;
        self.me.set(Some(nodes.me));
        let mut asking = JoinSet::new();
        for node in peers::near(&nodes) {
            let path = format!("{NODES}/{}{RELEASES}", node.id);
            let asked = ask(self.agent.clone(), path, None, LIMIT);
            asking.spawn(async move { (node, asked.await) });
        }
        while let Some(answer) = asking.join_next().await {
            let (node, answer) = answer?;
            let shared = answer.and_then(|text| read(&text));
            let shared = shared.unwrap_or_else(|error| self.silent(&node, &error));
            self.heard(node, shared);
        }
        Ok(())
    }

    /// Who is silent has nothing. That is told once, and again only if it had something meanwhile.
    fn silent(&self, node: &Node, error: &anyhow::Error) -> Shared {
        let nothing = Shared::default();
        let is_known = self.change(node.id, |it| it.shared == nothing).unwrap_or_default();
        if !is_known {
            eprintln!("{} does not say what it has: {error:#}", node.name);
        }
        nothing
    }

    fn heard(&self, node: Node, shared: Shared) {
        let mut neighbours = self.neighbours.borrow_mut();
        match neighbours.iter_mut().find(|it| it.id == node.id) {
            Some(neighbour) => {
                neighbour.says(shared);
                // It is another fetch now, or another look.
                (neighbour.failed, neighbour.asked) = (0, false);
            }
            None => neighbours.push(Neighbour::new(node, shared)),
        }
    }

    async fn ask(&self, path: &str) -> Result<Bytes> {
        ask(self.agent.clone(), path.to_owned(), None, LIMIT).await
    }

    /// What to do next, while this is lacking.
    pub(crate) fn plan(&self, root: &RootHash, runs: Vec<Run>) -> Plan<Step> {
        let Some(me) = self.me.get() else {
            return Plan { steps: vec![Step::Leave], ..Plan::default() };
        };
        let want = Want { me, root: root.clone(), runs };
        peers::Peers::plan(&want, &self.neighbours.borrow())
    }

    /// Whether anybody is left who has it.
    pub(crate) fn have(&self, root: &RootHash) -> bool {
        let steps = self.plan(root, vec![Run { from: 0, size: 1 }]).steps;
        !steps.iter().any(|step| matches!(step, Step::Leave | Step::Await(_)))
    }

    /// Asks a node for a stretch of a part.
    pub(crate) fn request(
        &self,
        (root, part): (&RootHash, Held),
        (node, run): (NodeId, Run),
        coming: &mut Coming,
    ) {
        let failed = self.change(node, |it| {
            it.asked = true;
            it.failed
        });
        let path = format!("{NODES}/{node}{RELEASES}/{root}/{part}");
        let limit = peers::patience(failed.unwrap_or_default());
        let asked = ask(self.agent.clone(), path, Some(run), limit);
        coming.spawn(async move { Answer { node, run, bytes: asked.await } });
    }

    /// What it gave was right.
    pub(crate) fn right(&self, node: NodeId, bytes: u64) {
        self.fetched.set(self.fetched.get() + bytes);
        self.change(node, |it| (it.asked, it.failed) = (false, 0));
    }

    /// It gave nothing.
    pub(crate) fn failed(&self, node: NodeId, error: &anyhow::Error) {
        eprintln!("{} gives nothing: {error:#}", self.name(node));
        self.change(node, |it| (it.asked, it.failed) = (false, it.failed + 1));
    }

    /// It gave something else.
    pub(crate) fn wrong(&self, node: NodeId) {
        eprintln!("{} gave what is not the release's", self.name(node));
        self.change(node, |it| (it.asked, it.wrong) = (false, true));
    }

    /// Who is not asked any more, and why.
    pub(crate) fn notes(&self, root: &RootHash) -> BTreeSet<String> {
        self.plan(root, Vec::new()).problems.iter().map(ToString::to_string).collect()
    }

    fn change<T>(&self, node: NodeId, change: impl FnOnce(&mut Neighbour) -> T) -> Option<T> {
        self.neighbours.borrow_mut().iter_mut().find(|it| it.id == node).map(change)
    }

    fn name(&self, node: NodeId) -> String {
        let name = self.change(node, |it| it.name.to_string());
        name.unwrap_or_else(|| format!("node {node}"))
    }
}

/// What another node says, as a line that cannot be taken for one of this program's.
fn words(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    let line = text.trim().lines().next().unwrap_or_default();
    line.chars().filter(|it| !it.is_control()).take(WORDS).collect()
}

fn read<T: DeserializeOwned>(text: &[u8]) -> Result<T> {
    serde_json::from_slice(text).context("its answer is not understood")
}

/// Puts a question to the agent, and gives all of a good answer.
async fn ask(agent: PathBuf, path: String, run: Option<Run>, limit: Duration) -> Result<Bytes> {
    let talk = async {
        let stream = UnixStream::connect(&agent).await.context("the agent does not answer")?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        // It ends with the answer's body.
        tokio::spawn(connection);
        let mut request = Request::get(path).header(HOST, "trilith");
        if let Some(run) = run {
            request = request.header(RANGE, run.header());
        }
        let answer = sender.send_request(request.body(Empty::<Bytes>::new())?).await?;
        let code = answer.status();
        let most = run.map_or(LONGEST, |run| run.size.max(LONGEST));
        let body = Limited::new(answer.into_body(), usize::try_from(most)?).collect().await;
        let Ok(body) = body else { bail!("its answer breaks off") };
        let body = body.to_bytes();
        let good = if run.is_some() { StatusCode::PARTIAL_CONTENT } else { StatusCode::OK };
        ensure!(code == good, "it refuses ({code}): {}", words(&body));
        let size = run.map_or(body.len() as u64, |run| run.size);
        ensure!(body.len() as u64 == size, "it gives {} bytes of {size}", body.len());
        Ok(body)
    };
    let answer = timeout(limit, talk).await;
    answer.with_context(|| format!("nothing within {} s", limit.as_secs()))?
}
