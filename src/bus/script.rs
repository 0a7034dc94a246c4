//! What Redis does for us, each step as one script on one key: whole or not at all, on whichever server of a
//! cluster has that key.
//!
//! Times are Redis' own: the clocks of nodes may differ. Every key with a hash of a user or call lapses by
//! itself, so that what a lost node leaves behind does not stay for ever.

/// One step; its texts below say what it takes and gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Script {
    Beat,
    ForgetNode,
    CallsOf,
    Enlist,
    Delist,
    Call,
    Begin,
    Claim,
    Put,
    Join,
    Ring,
    Stand,
    Withdraw,
    ForgetCall,
    Attend,
    User,
    Key,
    FreeKey,
    /// Whether Redis answers.
    Probe,
}

impl Script {
    /// How many there are.
    pub(super) const COUNT: usize = 19;

    /// All, in the order of their places.
    pub(super) const ALL: [Self; Self::COUNT] = [
        Self::Beat,
        Self::ForgetNode,
        Self::CallsOf,
        Self::Enlist,
        Self::Delist,
        Self::Call,
        Self::Begin,
        Self::Claim,
        Self::Put,
        Self::Join,
        Self::Ring,
        Self::Stand,
        Self::Withdraw,
        Self::ForgetCall,
        Self::Attend,
        Self::User,
        Self::Key,
        Self::FreeKey,
        Self::Probe,
    ];

    /// What is being done, for errors.
    pub(super) fn during(self) -> &'static str {
        match self {
            Self::Beat => "telling that this node lives",
            Self::ForgetNode => "forgetting a node",
            Self::CallsOf => "reading the calls of a node",
            Self::Enlist => "noting calls of this node",
            Self::Delist => "striking out calls of a node",
            Self::Call => "reading a call",
            Self::Begin => "taking the id of a call",
            Self::Claim => "claiming a call",
            Self::Put => "putting a call",
            Self::Join => "joining a user to a call",
            Self::Ring => "ringing a user",
            Self::Stand => "noting how a user stands to a call",
            Self::Withdraw => "taking a claim back",
            Self::ForgetCall => "forgetting a user's call",
            Self::Attend => "noting where a user is",
            Self::User => "reading what is known of a user",
            Self::Key => "reading an idempotency key",
            Self::FreeKey => "freeing an idempotency key",
            Self::Probe => "looking for Redis",
        }
    }

    /// Its text in Lua.
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Beat => BEAT,
            Self::ForgetNode => "return redis.call('ZREM', KEYS[1], ARGV[1])",
            Self::CallsOf => "return redis.call('SMEMBERS', KEYS[1])",
            Self::Enlist => ENLIST,
            Self::Delist => "return redis.call('SREM', KEYS[1], unpack(ARGV))",
            Self::Call => CALL,
            Self::Begin => BEGIN,
            Self::Claim => CLAIM,
            Self::Put => PUT,
            Self::Join => JOIN,
            Self::Ring => RING,
            Self::Stand => STAND,
            Self::Withdraw => WITHDRAW,
            Self::ForgetCall => FORGET_CALL,
            Self::Attend => ATTEND,
            Self::User => "return redis.call('HGETALL', KEYS[1])",
            Self::Key => KEY,
            Self::FreeKey => FREE_KEY,
            Self::Probe => "return redis.call('EXISTS', KEYS[1])",
        }
    }
}

/// me -> every node and its last beat. Those that were last heard an hour ago go: nobody waits for them.
const BEAT: &str = "
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZADD', KEYS[1], string.format('%.0f', now), ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now - 3600000))
return redis.call('ZRANGE', KEYS[1], 0, -1, 'WITHSCORES')
";

/// calls. No call lives longer than a week, so neither does the list of a node that nobody took over.
const ENLIST: &str = "
redis.call('SADD', KEYS[1], unpack(ARGV))
redis.call('PEXPIRE', KEYS[1], 604800000)
return 1
";

/// -> the call's fields.
const CALL: &str = "return redis.call('HMGET', KEYS[1], 'owner', 'epoch', 'seq', 'over', 'snap')";

/// me -> whether the id was free.
const BEGIN: &str = "
if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
redis.call('HSET', KEYS[1], 'owner', ARGV[1], 'epoch', '1', 'seq', '0', 'over', '0', 'snap', '')
redis.call('PEXPIRE', KEYS[1], 60000)
return 1
";

/// me, owner, epoch or nothing -> nothing, or whether it is ours now, the epoch, and what the call was.
const CLAIM: &str = "
local was = redis.call('HMGET', KEYS[1], 'owner', 'epoch', 'seq', 'over', 'snap')
if not was[1] then return nil end
if was[1] ~= ARGV[2] or was[4] == '1' or (ARGV[3] ~= '' and was[2] ~= ARGV[3]) then
  return {0, was[2], was}
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local epoch = string.format('%.0f', math.max((tonumber(was[2]) or 0) + 1, now))
redis.call('HSET', KEYS[1], 'owner', ARGV[1], 'epoch', epoch)
if was[5] ~= '' then redis.call('PEXPIRE', KEYS[1], 21600000) end
return {1, epoch, was}
";

/// me, epoch, seq, over, create, snapshot -> 0 kept, 1 older, 2 deposed, 3 missing. What has the same number
/// is overwritten, as there are changes without events; what is over stays over.
const PUT: &str = "
local was = redis.call('HMGET', KEYS[1], 'owner', 'epoch', 'seq', 'over')
if was[1] then
  local epoch, mine = tonumber(was[2]) or 0, tonumber(ARGV[2])
  if epoch > mine or (epoch == mine and was[1] ~= ARGV[1]) then return 2 end
  if epoch == mine then
    if (tonumber(was[3]) or 0) > tonumber(ARGV[3]) then return 1 end
    if was[4] == '1' and ARGV[4] ~= '1' then return 1 end
  end
elseif ARGV[5] ~= '1' then
  return 3
end
redis.call('HSET', KEYS[1], 'owner', ARGV[1], 'epoch', ARGV[2], 'seq', ARGV[3], 'over', ARGV[4],
  'snap', ARGV[6])
redis.call('PEXPIRE', KEYS[1], ARGV[4] == '1' and 600000 or 21600000)
return 0
";

/// call, me, whom it calls -> whether the user is in it, and the user.
const JOIN: &str = "
local joined = redis.call('HGET', KEYS[1], 'in')
local free = not joined or joined == ARGV[1]
if free then
  redis.call('HSET', KEYS[1], 'in', ARGV[1], 'c:' .. ARGV[1], ARGV[2] .. ' m')
  if ARGV[3] == '' then redis.call('HDEL', KEYS[1], 'to')
  else redis.call('HSET', KEYS[1], 'to', ARGV[3]) end
  redis.call('PEXPIRE', KEYS[1], 86400000)
end
return {free and 1 or 0, redis.call('HGETALL', KEYS[1])}
";

/// call, me, mark, how many may -> 0 rung, 1 busy, 2 too many; and the user.
const RING: &str = "
local joined = redis.call('HGET', KEYS[1], 'in')
local mark, answer = ARGV[3], 0
if joined and joined ~= ARGV[1] then
  mark, answer = 'm', 1
else
  local rings, field = 0, nil
  for _, it in ipairs(redis.call('HGETALL', KEYS[1])) do
    if not field then field = it
    else
      if field:sub(1, 2) == 'c:' and field:sub(3) ~= ARGV[1] and it:find(' r', 1, true) then
        rings = rings + 1
      end
      field = nil
    end
  end
  if rings >= tonumber(ARGV[4]) then return {2, redis.call('HGETALL', KEYS[1])} end
end
redis.call('HSET', KEYS[1], 'c:' .. ARGV[1], ARGV[2] .. ' ' .. mark)
redis.call('PEXPIRE', KEYS[1], 86400000)
return {answer, redis.call('HGETALL', KEYS[1])}
";

/// call, me, mark or nothing, whether joined -> the user.
const STAND: &str = "
local joined = redis.call('HGET', KEYS[1], 'in')
if ARGV[3] == '' then redis.call('HDEL', KEYS[1], 'c:' .. ARGV[1])
else redis.call('HSET', KEYS[1], 'c:' .. ARGV[1], ARGV[2] .. ' ' .. ARGV[3]) end
if ARGV[4] == '1' then
  if not joined then redis.call('HSET', KEYS[1], 'in', ARGV[1]) end
elseif joined == ARGV[1] then
  redis.call('HDEL', KEYS[1], 'in', 'to')
end
redis.call('PEXPIRE', KEYS[1], 86400000)
return redis.call('HGETALL', KEYS[1])
";

/// call, node -> the user. What another node says of the same call stays.
const WITHDRAW: &str = "
local stand = redis.call('HGET', KEYS[1], 'c:' .. ARGV[1])
if not stand or stand:sub(1, #ARGV[2] + 1) == ARGV[2] .. ' ' then
  redis.call('HDEL', KEYS[1], 'c:' .. ARGV[1])
  if redis.call('HGET', KEYS[1], 'in') == ARGV[1] then redis.call('HDEL', KEYS[1], 'in', 'to') end
end
redis.call('PEXPIRE', KEYS[1], 86400000)
return redis.call('HGETALL', KEYS[1])
";

/// call -> the user.
const FORGET_CALL: &str = "
redis.call('HDEL', KEYS[1], 'c:' .. ARGV[1])
if redis.call('HGET', KEYS[1], 'in') == ARGV[1] then redis.call('HDEL', KEYS[1], 'in', 'to') end
redis.call('PEXPIRE', KEYS[1], 86400000)
return redis.call('HGETALL', KEYS[1])
";

/// me, whether here -> the user.
const ATTEND: &str = "
if ARGV[2] == '0' then redis.call('HDEL', KEYS[1], 'n:' .. ARGV[1])
else redis.call('HSET', KEYS[1], 'n:' .. ARGV[1], ARGV[2]) end
redis.call('PEXPIRE', KEYS[1], 86400000)
return redis.call('HGETALL', KEYS[1])
";

/// call -> the call that the key stands for.
const KEY: &str = "
return redis.call('SET', KEYS[1], ARGV[1], 'NX', 'GET', 'PX', 3600000) or ARGV[1]
";

/// call.
const FREE_KEY: &str = "
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
";
