//! What may be said on the command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// One endpoint and one Bearer key in front of the free tiers of many LLM providers.
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "Examples:
  freellmapi demo                      try it: no keys, no Internet
  GROQ_API_KEY=gsk_… freellmapi        run it with one provider
  freellmapi check                     what is wrong with the configuration and the store
Run a command with --help for its own examples."
)]
pub(super) struct Arguments {
    /// The configuration file [default: ./config/freellmapi.toml, else the built-in one]
    #[arg(long, global = true, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    #[command(subcommand)]
    pub(super) command: Option<Command>,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Run the gateway (what happens without a command, too)
    #[command(after_help = "Examples:
  GROQ_API_KEY=gsk_… freellmapi serve
  DATABASE_URL=postgres://gateway@db/gateway FREELLMAPI_MASTER_KEY=$(openssl rand -hex 32) freellmapi serve")]
    Serve,
    /// Run the gateway on loopback with six simulated providers: no keys, no Internet
    #[command(after_help = "Examples:
  freellmapi demo
  FREELLMAPI_LISTEN=127.0.0.1:8080 freellmapi demo")]
    Demo,
    /// Print every problem of the configuration and the store; exit 0 or 1
    #[command(after_help = "Examples:
  freellmapi check
  freellmapi --config my.toml check")]
    Check,
    /// Migrate the store and exit (`serve` does it too)
    #[command(after_help = "Examples:
  freellmapi migrate
  DATABASE_URL=postgres://gateway@db/gateway freellmapi migrate")]
    Migrate,
    /// Tenants: who may use the gateway
    Tenant {
        #[command(subcommand)]
        command: TenantCommand,
    },
    /// Keys: what a tenant shows
    Key {
        #[command(subcommand)]
        command: KeyCommand,
    },
    /// Models: what may be asked
    Model {
        #[command(subcommand)]
        command: ModelCommand,
    },
    /// The ledger: what is held of the providers' limits
    Ledger {
        #[command(subcommand)]
        command: LedgerCommand,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum TenantCommand {
    /// Add a tenant; what is not given is not limited
    #[command(after_help = "Examples:
  freellmapi tenant add --name team-a
  freellmapi tenant add --name interns --rpm 10 --tpd 200000 --parallel 2
  freellmapi tenant add --name clinic --models llama-3.3-70b,groq/openai/gpt-oss-120b --no-training")]
    Add {
        /// A name that no other tenant has
        #[arg(long, value_name = "N")]
        name: String,
        #[command(flatten)]
        grants: Grants,
    },
    /// Change what is given and leave the rest; a running server honours it within 5 s
    #[command(after_help = "Examples:
  freellmapi tenant set --name team-a --rpm 60 --weight 3
  freellmapi tenant set --name team-a --rpm none --models none
  freellmapi tenant set --name team-a --no-training=false")]
    Set {
        /// Whose grants to change
        #[arg(long, value_name = "N")]
        name: String,
        #[command(flatten)]
        grants: Grants,
    },
    /// Remove a tenant and all of its keys for good; its statistics stay
    #[command(after_help = "Example:
  freellmapi tenant remove --name team-a")]
    Remove {
        /// Who is to go
        #[arg(long, value_name = "N")]
        name: String,
    },
    /// List the tenants
    #[command(after_help = "Examples:
  freellmapi tenant list
  freellmapi tenant list --json")]
    List {
        /// As JSON, for programs
        #[arg(long)]
        json: bool,
    },
}

/// What a tenant is granted. Each limit is a whole number of at least 1, or `none`.
#[derive(Debug, Args)]
pub(super) struct Grants {
    /// Requests in any 60 s
    #[arg(long, value_name = "MAX")]
    pub(super) rpm: Option<String>,
    /// Requests in a UTC day
    #[arg(long, value_name = "MAX")]
    pub(super) rpd: Option<String>,
    /// Tokens, input and output together, in any 60 s
    #[arg(long, value_name = "MAX")]
    pub(super) tpm: Option<String>,
    /// Tokens in a UTC day
    #[arg(long, value_name = "MAX")]
    pub(super) tpd: Option<String>,
    /// Tokens in a UTC month
    #[arg(long, value_name = "MAX")]
    pub(super) tpmonth: Option<String>,
    /// Requests under way at once
    #[arg(long, value_name = "MAX")]
    pub(super) parallel: Option<String>,
    /// Its share among competing tenants, in proportion to theirs [new tenants: 1]
    #[arg(long, value_name = "WEIGHT")]
    pub(super) weight: Option<String>,
    /// The models that it may use (a family, an id or provider/model), or `none` for all
    #[arg(long, value_name = "A,B")]
    pub(super) models: Option<String>,
    /// Only providers that do not train on what they are sent
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(super) no_training: Option<bool>,
}

#[derive(Debug, Subcommand)]
pub(super) enum KeyCommand {
    /// Make a key: the key alone on stdout, once; its id on stderr
    #[command(after_help = "Examples:
  freellmapi key create --tenant default --label laptop
  KEY=$(freellmapi key create --tenant team-a --expires 30d)")]
    Create {
        /// Whose key it is
        #[arg(long, value_name = "N")]
        tenant: String,
        /// What it is for
        #[arg(long, value_name = "L", default_value = "")]
        label: String,
        /// After how long it ends, for example 12h or 30d [default: never]
        #[arg(long, value_name = "DURATION")]
        expires: Option<String>,
    },
    /// List the keys; never the keys themselves, which nobody knows
    #[command(after_help = "Examples:
  freellmapi key list
  freellmapi key list --tenant team-a")]
    List {
        /// Of this tenant alone
        #[arg(long, value_name = "N")]
        tenant: Option<String>,
    },
    /// Revoke a key: refused everywhere within 5 s
    #[command(after_help = "Example:
  freellmapi key revoke 3")]
    Revoke {
        /// The id that `key list` shows
        #[arg(value_name = "KEY_ID")]
        id: i64,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum LedgerCommand {
    /// Show what is held of every limit, and what is left alone; beside a running server too
    #[command(after_help = "Examples:
  freellmapi ledger show
  freellmapi ledger show --json")]
    Show {
        /// As JSON, for programs
        #[arg(long)]
        json: bool,
    },
    /// Hold every limit for one window from now: after a backup was restored, which forgets what was used since
    #[command(after_help = "Examples:
  freellmapi ledger block
  freellmapi ledger block --provider groq")]
    Block {
        /// Of this provider alone
        #[arg(long, value_name = "P")]
        provider: Option<String>,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum ModelCommand {
    /// List the models with their numbers
    #[command(after_help = "Examples:
  freellmapi model list
  freellmapi model list --json")]
    List {
        /// As JSON, for programs
        #[arg(long)]
        json: bool,
    },
}
