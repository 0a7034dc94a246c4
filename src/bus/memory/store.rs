//! What the scripts do, once more in Rust: the same keys, fields and answers.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};

use bytes::Bytes;

use crate::bus::reply::Reply;
use crate::bus::script::Script;

const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;

#[derive(Debug, Clone)]
enum Value {
    Hash(BTreeMap<String, Bytes>),
    Set(BTreeSet<String>),
    Scores(BTreeMap<String, i64>),
    Text(String),
}

#[derive(Debug, Clone)]
struct Entry {
    value: Value,
    until: i64,
}

/// All keys, as one Redis has them.
#[derive(Debug, Clone, Default)]
pub(super) struct Store {
    entries: HashMap<String, Entry>,
    now: i64,
}

/// How many masters a cluster has.
pub(crate) const MASTERS: u64 = 3;

/// Which of them has a key: what stands in braces decides, where there are any.
pub(super) fn master_of(key: &str) -> u64 {
    let tag = key.split_once('{').and_then(|(_, rest)| rest.split_once('}'));
    let mut hasher = DefaultHasher::new();
    tag.map_or(key, |(tag, _)| tag).hash(&mut hasher);
    hasher.finish() % MASTERS
}

fn text(text: &str) -> Reply {
    Reply::Text(Bytes::copy_from_slice(text.as_bytes()))
}

fn number(set: bool) -> Reply {
    Reply::Number(i64::from(set))
}

fn flat(fields: &BTreeMap<String, Bytes>) -> Reply {
    let pair = |(field, value): (&String, &Bytes)| [text(field), Reply::Text(value.clone())];
    Reply::List(fields.iter().flat_map(pair).collect())
}

type Fields = BTreeMap<String, Bytes>;

/// Whether a user's stand was said by that node, or by none.
fn is_of(stand: &str, node: &str) -> bool {
    stand.is_empty() || stand.starts_with(&format!("{node} "))
}

fn get<'a>(fields: &'a Fields, name: &str) -> &'a str {
    fields.get(name).map_or("", |it| std::str::from_utf8(it).unwrap())
}

fn set(fields: &mut Fields, name: &str, value: impl Into<String>) {
    fields.insert(name.to_owned(), value.into().into());
}

impl Store {
    /// The keys of one master are as another store has them.
    pub(super) fn take_part(&mut self, of: &Self, master: u64) {
        let is_part = |key: &str| master_of(key) == master;
        self.entries.retain(|key, _| !is_part(key));
        let part = of.entries.iter().filter(|(key, _)| is_part(key));
        self.entries.extend(part.map(|(key, entry)| (key.clone(), entry.clone())));
    }

    /// Does what the script does, at `now` by Redis' clock.
    pub(super) fn run(&mut self, now: i64, script: Script, key: &str, args: &[&[u8]]) -> Reply {
        self.now = now;
        self.entries.retain(|_, entry| entry.until > now);
        // A snapshot is any bytes.
        let snapshot = Bytes::copy_from_slice(args.get(5).copied().unwrap_or_default());
        let texts = if script == Script::Put { 5 } else { args.len() };
        let args: Vec<&str> =
            args.iter().take(texts).map(|it| std::str::from_utf8(it).unwrap()).collect();
        match script {
            Script::Beat => self.beat(key, args[0]),
            Script::ForgetNode => {
                let Value::Scores(nodes) = self.value(key, Value::Scores(BTreeMap::new())) else {
                    unreachable!()
                };
                number(nodes.remove(args[0]).is_some())
            }
            Script::Key => text(&self.hold(key, args[0], HOUR)),
            Script::FreeKey => number(self.free(key, args[0])),
            Script::CallsOf => Reply::List(self.members(key).iter().map(|it| text(it)).collect()),
            Script::Enlist => {
                self.members(key).extend(args.iter().map(|it| (*it).to_owned()));
                self.keep(key, 7 * 24 * HOUR);
                Reply::Number(1)
            }
            Script::Delist => {
                let members = self.members(key);
                Reply::Number(args.iter().map(|it| i64::from(members.remove(*it))).sum())
            }
            Script::Probe => number(self.entries.contains_key(key)),
            Script::Call | Script::Begin | Script::Claim | Script::Put => {
                self.on_call(script, key, &args, snapshot)
            }
            Script::Join
            | Script::Ring
            | Script::Stand
            | Script::Withdraw
            | Script::ForgetCall
            | Script::Attend
            | Script::User => self.on_user(script, key, &args),
        }
    }

    fn value(&mut self, key: &str, empty: Value) -> &mut Value {
        let entry = || Entry { value: empty, until: i64::MAX };
        &mut self.entries.entry(key.to_owned()).or_insert_with(entry).value
    }

    fn keep(&mut self, key: &str, lasts: i64) {
        self.entries.get_mut(key).unwrap().until = self.now + lasts;
    }

    fn fields(&mut self, key: &str) -> &mut Fields {
        let Value::Hash(fields) = self.value(key, Value::Hash(BTreeMap::new())) else {
            unreachable!("{key} is a hash")
        };
        fields
    }

    fn members(&mut self, key: &str) -> &mut BTreeSet<String> {
        let Value::Set(members) = self.value(key, Value::Set(BTreeSet::new())) else {
            unreachable!("{key} is a set")
        };
        members
    }

    fn beat(&mut self, key: &str, me: &str) -> Reply {
        let now = self.now;
        let Value::Scores(nodes) = self.value(key, Value::Scores(BTreeMap::new())) else {
            unreachable!("{key} has scores")
        };
        nodes.insert(me.to_owned(), now);
        nodes.retain(|_, last| *last > now - HOUR);
        let pair = |(node, last): (&String, &i64)| [text(node), text(&last.to_string())];
        Reply::List(nodes.iter().flat_map(pair).collect())
    }

    /// Sets a text where there is none: the one that is there then.
    fn hold(&mut self, key: &str, wanted: &str, lasts: i64) -> String {
        if let Some(Entry { value: Value::Text(held), .. }) = self.entries.get(key) {
            return held.clone();
        }
        let entry = Entry { value: Value::Text(wanted.to_owned()), until: self.now + lasts };
        self.entries.insert(key.to_owned(), entry);
        wanted.to_owned()
    }

    fn free(&mut self, key: &str, held: &str) -> bool {
        match self.entries.get(key) {
            Some(Entry { value: Value::Text(it), .. }) if it == held => {
                self.entries.remove(key).is_some()
            }
            _ => false,
        }
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "whoever calls it has chosen already")]
    fn on_call(&mut self, script: Script, key: &str, args: &[&str], snapshot: Bytes) -> Reply {
        let now = self.now;
        let there = self.entries.contains_key(key);
        if !there && (script == Script::Claim || script == Script::Call) {
            let nothing = Reply::List(vec![Reply::Nil; 5]);
            return if script == Script::Call { nothing } else { Reply::Nil };
        }
        if !there && script == Script::Put && args[4] != "1" {
            return Reply::Number(3);
        }
        let call = self.fields(key);
        let names = ["owner", "epoch", "seq", "over", "snap"];
        let was = Reply::List(
            names.map(|it| Reply::Text(call.get(it).cloned().unwrap_or_default())).to_vec(),
        );
        let (reply, lasts) = match script {
            Script::Begin if there => return Reply::Number(0),
            Script::Begin => {
                for (name, value) in names.into_iter().zip([args[0], "1", "0", "0", ""]) {
                    set(call, name, value);
                }
                (Reply::Number(1), MINUTE)
            }
            Script::Claim => {
                let epoch = get(call, "epoch").to_owned();
                let other = !args[2].is_empty() && epoch != args[2];
                let theirs = get(call, "owner") != args[1] || other;
                if theirs || get(call, "over") == "1" {
                    return Reply::List(vec![Reply::Number(0), text(&epoch), was]);
                }
                let epoch = (epoch.parse::<i64>().unwrap() + 1).max(now).to_string();
                set(call, "owner", args[0]);
                set(call, "epoch", epoch.clone());
                let reply = Reply::List(vec![Reply::Number(1), text(&epoch), was]);
                if call["snap"].is_empty() {
                    return reply;
                }
                (reply, 6 * HOUR)
            }
            Script::Put => {
                if there && let Some(refused) = refused(call, args) {
                    return Reply::Number(refused);
                }
                for (name, value) in names.into_iter().zip(&args[..4]) {
                    set(call, name, *value);
                }
                call.insert("snap".to_owned(), snapshot);
                (Reply::Number(0), if args[3] == "1" { 10 * MINUTE } else { 6 * HOUR })
            }
            _ => return was,
        };
        self.keep(key, lasts);
        reply
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "whoever calls it has chosen already")]
    fn on_user(&mut self, script: Script, key: &str, args: &[&str]) -> Reply {
        if script == Script::User && !self.entries.contains_key(key) {
            return Reply::List(Vec::new());
        }
        let user = self.fields(key);
        let call = args.first().copied().unwrap_or_default();
        let joined = get(user, "in").to_owned();
        let free = joined.is_empty() || joined == call;
        let field = format!("c:{call}");
        let mut answer = None;
        match script {
            Script::Join => {
                answer = Some(i64::from(free));
                if free {
                    set(user, "in", call);
                    set(user, &field, format!("{} m", args[1]));
                    user.remove("to");
                    if !args[2].is_empty() {
                        set(user, "to", args[2]);
                    }
                }
            }
            Script::Ring => {
                let rung = |(it, value): (&String, &Bytes)| {
                    it.starts_with("c:") && **it != field && value.windows(2).any(|it| it == b" r")
                };
                let rings = user.iter().filter(|it| rung(*it)).count();
                let (number, mark) = if !free {
                    (1, "m")
                } else if rings >= args[3].parse().unwrap() {
                    (2, "")
                } else {
                    (0, args[2])
                };
                answer = Some(number);
                if number != 2 {
                    set(user, &field, format!("{} {mark}", args[1]));
                }
            }
            Script::Stand => {
                if args[2].is_empty() {
                    user.remove(&field);
                } else {
                    set(user, &field, format!("{} {}", args[1], args[2]));
                }
                if args[3] == "1" {
                    if joined.is_empty() {
                        set(user, "in", call);
                    }
                } else {
                    leave(user, call);
                }
            }
            Script::Withdraw if !is_of(get(user, &field), args[1]) => {}
            Script::Withdraw | Script::ForgetCall => {
                user.remove(&field);
                leave(user, call);
            }
            Script::Attend if args[1] == "0" => drop(user.remove(&format!("n:{}", args[0]))),
            Script::Attend => set(user, &format!("n:{}", args[0]), args[1]),
            _ => return flat(user),
        }
        let all = flat(user);
        self.keep(key, 24 * HOUR);
        match answer {
            Some(answer) => Reply::List(vec![Reply::Number(answer), all]),
            None => all,
        }
    }
}

fn refused(call: &Fields, args: &[&str]) -> Option<i64> {
    let there = |name| get(call, name).parse::<i64>().unwrap();
    let (epoch, mine) = (there("epoch"), args[1].parse::<i64>().unwrap());
    if epoch > mine || (epoch == mine && get(call, "owner") != args[0]) {
        return Some(2);
    }
    let newer = there("seq") > args[2].parse().unwrap();
    let over = get(call, "over") == "1" && args[3] != "1";
    (epoch == mine && (newer || over)).then_some(1)
}

fn leave(user: &mut Fields, call: &str) {
    if get(user, "in") == call {
        user.remove("in");
        user.remove("to");
    }
}
