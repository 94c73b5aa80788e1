use std::process::{Command, Stdio};

use harness::PATIENCE;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, BufReader},
    process::Child,
    sync::watch,
    task::JoinSet,
};

/// A server in another language. Its first line says where it listens; it ends with this value.
#[derive(Debug)]
pub(crate) struct Program {
    url: String,
    lines: watch::Sender<Vec<String>>,
    _child: Child,
    _readers: JoinSet<()>,
}

impl Program {
    /// Starts a server and waits until it says `listening on <url>`.
    pub(crate) async fn serve(command: Command) -> Self {
        let mut command = tokio::process::Command::from(command);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let lines = watch::Sender::default();
        let mut readers = JoinSet::new();
        readers.spawn(read(child.stdout.take().expect("it was asked for"), lines.clone()));
        readers.spawn(read(child.stderr.take().expect("it was asked for"), lines.clone()));
        let mut program = Self {
            url: String::new(),
            lines,
            _child: child,
            _readers: readers,
        };
        let line = program.prints("listening on ").await;
        line.trim_start_matches("listening on ").clone_into(&mut program.url);
        program
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Waits for a line with this text.
    pub(crate) async fn prints(&self, text: &str) -> String {
        let mut lines = self.lines.subscribe();
        let said = |lines: &Vec<String>| lines.iter().any(|line| line.contains(text));
        match tokio::time::timeout(PATIENCE, lines.wait_for(said)).await {
            Ok(Ok(lines)) => lines
                .iter()
                .find(|line| line.contains(text))
                .cloned()
                .unwrap_or_default(),
            _ => panic!("waited for {text:?}; printed was:\n{}", self.lines.borrow().join("\n")),
        }
    }
}

async fn read(stream: impl AsyncRead + Unpin, seen: watch::Sender<Vec<String>>) {
    let mut lines = BufReader::new(stream).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        seen.send_modify(|seen| seen.push(line));
    }
}
