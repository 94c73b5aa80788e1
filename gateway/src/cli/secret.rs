//! `callfeed secret`.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use clap::Subcommand;
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use serde_json::json;

use super::{Failure, say};

/// Bytes of a signing secret; Standard Webhooks asks for 24 to 64.
const SECRET_BYTES: usize = 32;
const SEED_BYTES: usize = 32;

/// Make secrets.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a secret that signs deliveries to a subscriber (Standard Webhooks), from the system's randomness.
    New {
        /// Make an Ed25519 key pair instead: `whsk_…` for callfeed, `whpk_…` for the subscriber.
        #[arg(long)]
        ed25519: bool,
        /// Print one JSON object instead of text.
        #[arg(long)]
        json: bool,
    },
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let Command::New { ed25519, json } = args.command;
    if !ed25519 {
        let mut secret = [0; SECRET_BYTES];
        getrandom::fill(&mut secret)?;
        let secret = format!("whsec_{}", BASE64_STANDARD.encode(secret));
        say(&if json {
            json!({ "secret": secret }).to_string()
        } else {
            secret
        });
        return Ok(());
    }
    let mut seed = [0; SEED_BYTES];
    getrandom::fill(&mut seed)?;
    let pair = Ed25519KeyPair::from_seed_unchecked(&seed).map_err(|_| anyhow::anyhow!("failed to make a key pair"))?;
    let private = format!("whsk_{}", BASE64_STANDARD.encode(seed));
    let public = format!("whpk_{}", BASE64_STANDARD.encode(pair.public_key()));
    match json {
        true => say(&json!({ "private": private, "public": public }).to_string()),
        false => say(&format!("{private}\n{public}")),
    }
    Ok(())
}
