//! The customary limiter on Redis: a sorted set of instants, and a script that trims, counts and adds.

use std::cell::{Cell, RefCell};
use std::io;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use crate::{Limit, Outcome};

/// Answers 0, or the microseconds until there is room. KEYS: the limit. ARGV: its window in microseconds, its maximum,
/// a name for this admission.
const ADMIT: &str = "\
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local window = tonumber(ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - window)
if redis.call('ZCARD', KEYS[1]) < tonumber(ARGV[2]) then
  redis.call('ZADD', KEYS[1], now, ARGV[3])
  redis.call('PEXPIRE', KEYS[1], math.ceil(window / 1000))
  return 0
end
return redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')[2] + window - now";

/// Adds ARGV[2] admissions at even distances over the last ARGV[1] microseconds.
const FILL: &str = "\
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
for number = 1, ARGV[2] do
  redis.call('ZADD', KEYS[1], now - math.floor(ARGV[1] * number / (ARGV[2] + 1)), 'fill-' .. number)
end
return 0";

/// One limit; a connection for each that asks at the same time.
pub(super) struct RedisLimiter {
    address: String,
    key: String,
    window_us: String,
    max: String,
    /// Of the script, which the server keeps.
    digest: String,
    idle: RefCell<Vec<Connection>>,
    admissions: Cell<u64>,
}

/// A connection that has no call under way.
struct Connection(BufReader<TcpStream>);

/// What an answer is, as far as scripts answer here.
enum Reply {
    Integer(i64),
    Text(String),
}

impl RedisLimiter {
    pub(super) async fn open(limit: &Limit) -> Outcome<Self> {
        let mut connection = Connection::open(&limit.to).await?;
        let Reply::Text(digest) = connection.call(&["SCRIPT", "LOAD", ADMIT]).await? else {
            return Err("Redis did not take the script".into());
        };
        Ok(Self {
            address: limit.to.clone(),
            key: limit.name.clone(),
            window_us: limit.window().as_micros().to_string(),
            max: limit.max.to_string(),
            digest,
            idle: RefCell::new(vec![connection]),
            admissions: Cell::new(0),
        })
    }

    pub(super) async fn admit(&self) -> Result<(), String> {
        match self.run().await {
            Ok(Reply::Integer(0)) => Ok(()),
            Ok(Reply::Integer(wait_us)) => Err(format!("refused for {wait_us} µs")),
            Ok(Reply::Text(text)) => Err(text),
            Err(error) => Err(error.to_string()),
        }
    }

    async fn run(&self) -> io::Result<Reply> {
        let number = self.admissions.replace(self.admissions.get() + 1);
        let name = format!("{}-{number}", std::process::id());
        let mut connection = self.connection().await?;
        let words = ["EVALSHA", &self.digest, "1", &self.key, &self.window_us, &self.max, &name];
        let reply = connection.call(&words).await?;
        self.idle.borrow_mut().push(connection);
        Ok(reply)
    }

    async fn connection(&self) -> io::Result<Connection> {
        let kept = self.idle.borrow_mut().pop();
        match kept {
            Some(connection) => Ok(connection),
            None => Connection::open(&self.address).await,
        }
    }

    pub(super) async fn fill(&self, units: u32) -> io::Result<()> {
        let units = units.to_string();
        let words = ["EVAL", FILL, "1", &self.key, &self.window_us, &units];
        self.connection().await?.call(&words).await.map(|_| ())
    }
}

impl Connection {
    async fn open(address: &str) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self(BufReader::new(stream)))
    }

    /// One command in Redis's protocol, and its answer.
    /// Source: <https://redis.io/docs/latest/develop/reference/protocol-spec/>, read 2026-11-23.
    async fn call(&mut self, words: &[&str]) -> io::Result<Reply> {
        let mut command = format!("*{}\r\n", words.len());
        for word in words {
            command.push_str(&format!("${}\r\n{word}\r\n", word.len()));
        }
        self.0.write_all(command.as_bytes()).await?;
        let mut line = String::new();
        self.0.read_line(&mut line).await?;
        let line = line.trim_end();
        match (line.get(..1), line.get(1..)) {
            (Some(":"), Some(number)) => number.parse().map(Reply::Integer).map_err(io::Error::other),
            (Some("$"), Some(length)) => self.bulk(length.parse().map_err(io::Error::other)?).await,
            _ => Err(io::Error::other(format!("Redis answered '{line}'"))),
        }
    }

    async fn bulk(&mut self, length: usize) -> io::Result<Reply> {
        let mut text = vec![0; length + 2];
        self.0.read_exact(&mut text).await?;
        text.truncate(length);
        String::from_utf8(text).map(Reply::Text).map_err(io::Error::other)
    }
}
