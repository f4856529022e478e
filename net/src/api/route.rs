//! Which method a path names, and what grpc-go says of paths that name none.

use engine::error::Code;

use super::Refusal;
use super::kv::KvMethod;
use crate::grpc::MethodId;
use crate::quote::quote;

/// Every method etcd 3.6 serves on its client port, built here or not yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Method {
    /// One of `etcdserverpb.KV`.
    Kv(KvMethod),
    /// `etcdserverpb.Watch/Watch`.
    Watch,
    /// `etcdserverpb.Lease/LeaseGrant`.
    LeaseGrant,
    /// `etcdserverpb.Lease/LeaseRevoke`.
    LeaseRevoke,
    /// `etcdserverpb.Lease/LeaseKeepAlive`.
    LeaseKeepAlive,
    /// `etcdserverpb.Lease/LeaseTimeToLive`.
    LeaseTimeToLive,
    /// `etcdserverpb.Lease/LeaseLeases`.
    LeaseLeases,
    /// `etcdserverpb.Cluster/MemberAdd`.
    MemberAdd,
    /// `etcdserverpb.Cluster/MemberRemove`.
    MemberRemove,
    /// `etcdserverpb.Cluster/MemberUpdate`.
    MemberUpdate,
    /// `etcdserverpb.Cluster/MemberList`.
    MemberList,
    /// `etcdserverpb.Cluster/MemberPromote`.
    MemberPromote,
    /// `etcdserverpb.Maintenance/Alarm`.
    Alarm,
    /// `etcdserverpb.Maintenance/Status`.
    Status,
    /// `etcdserverpb.Maintenance/Defragment`.
    Defragment,
    /// `etcdserverpb.Maintenance/Hash`.
    Hash,
    /// `etcdserverpb.Maintenance/HashKV`.
    HashKV,
    /// `etcdserverpb.Maintenance/Snapshot`.
    Snapshot,
    /// `etcdserverpb.Maintenance/MoveLeader`.
    MoveLeader,
    /// `etcdserverpb.Maintenance/Downgrade`.
    Downgrade,
    /// `etcdserverpb.Auth/AuthEnable`.
    AuthEnable,
    /// `etcdserverpb.Auth/AuthDisable`.
    AuthDisable,
    /// `etcdserverpb.Auth/AuthStatus`.
    AuthStatus,
    /// `etcdserverpb.Auth/Authenticate`.
    Authenticate,
    /// `etcdserverpb.Auth/UserAdd`.
    AuthUserAdd,
    /// `etcdserverpb.Auth/UserGet`.
    AuthUserGet,
    /// `etcdserverpb.Auth/UserList`.
    AuthUserList,
    /// `etcdserverpb.Auth/UserDelete`.
    AuthUserDelete,
    /// `etcdserverpb.Auth/UserChangePassword`.
    AuthUserChangePassword,
    /// `etcdserverpb.Auth/UserGrantRole`.
    AuthUserGrantRole,
    /// `etcdserverpb.Auth/UserRevokeRole`.
    AuthUserRevokeRole,
    /// `etcdserverpb.Auth/RoleAdd`.
    AuthRoleAdd,
    /// `etcdserverpb.Auth/RoleGet`.
    AuthRoleGet,
    /// `etcdserverpb.Auth/RoleList`.
    AuthRoleList,
    /// `etcdserverpb.Auth/RoleDelete`.
    AuthRoleDelete,
    /// `etcdserverpb.Auth/RoleGrantPermission`.
    AuthRoleGrantPermission,
    /// `etcdserverpb.Auth/RoleRevokePermission`.
    AuthRoleRevokePermission,
    /// `v3lockpb.Lock/Lock`.
    Lock,
    /// `v3lockpb.Lock/Unlock`.
    Unlock,
    /// `v3electionpb.Election/Campaign`.
    ElectionCampaign,
    /// `v3electionpb.Election/Proclaim`.
    ElectionProclaim,
    /// `v3electionpb.Election/Leader`.
    ElectionLeader,
    /// `v3electionpb.Election/Observe`.
    ElectionObserve,
    /// `v3electionpb.Election/Resign`.
    ElectionResign,
    /// `grpc.health.v1.Health/Check`.
    HealthCheck,
    /// `grpc.health.v1.Health/List`.
    HealthList,
    /// `grpc.health.v1.Health/Watch`.
    HealthWatch,
}

/// Which sides of a call stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One request, one answer.
    Unary,
    /// One request, a stream of answers.
    ServerStream,
    /// Two streams.
    BidiStream,
}

impl Kind {
    /// The value of the label `grpc_type` in metrics.
    pub fn label(self) -> &'static str {
        match self {
            Kind::Unary => "unary",
            Kind::ServerStream => "server_stream",
            Kind::BidiStream => "bidi_stream",
        }
    }
}

/// Whether a learner answers a method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnLearner {
    /// Yes.
    Served,
    /// If the request is a serializable range.
    IfSerializable,
    /// No: `etcdserver: rpc not supported for learner`.
    Refused,
}

/// One row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// The method.
    pub method: Method,
    /// Its path.
    pub path: &'static str,
    /// Its kind.
    pub kind: Kind,
}

impl Route {
    /// Package and service: `etcdserverpb.KV`.
    pub fn service(&self) -> &'static str {
        self.names().0
    }

    /// Name within the service: `Put`.
    pub fn name(&self) -> &'static str {
        self.names().1
    }

    fn names(&self) -> (&'static str, &'static str) {
        self.path[1..].rsplit_once('/').expect("every path of the table has two slashes")
    }

    /// What a call of a method gets that is known and not built: as if it did not exist.
    pub fn unimplemented(&self) -> Refusal {
        unknown_method(self.name(), self.service())
    }
}

impl Method {
    /// Whether a learner answers it.
    pub fn on_learner(self) -> OnLearner {
        match self {
            Method::Status | Method::Snapshot => OnLearner::Served,
            Method::Kv(KvMethod::Range) => OnLearner::IfSerializable,
            _ => OnLearner::Refused,
        }
    }
}

/// Finds the method of a request's `:path`.
#[inline]
pub fn find(path: &[u8]) -> Result<&'static Route, Refusal> {
    if let Some(hash) = hash(path)
        && let Some(route) = ROUTES.get(usize::from(SLOTS[usize::from(hash)]))
        && route.path.as_bytes() == path
    {
        return Ok(route);
    }
    Err(unknown(path))
}

/// Finds a method by the two parts of its path; the number is its row in [`ROUTES`].
#[inline]
pub fn find_parts(service: &str, method: &str) -> Option<(usize, &'static Route)> {
    let (service, method) = (service.as_bytes(), method.as_bytes());
    // The bytes the hash looks at stand in the method's name, or just before it.
    let from_end = |n: usize| match method.len().checked_sub(n) {
        Some(at) => Some(method[at]),
        None if n == method.len() + 1 => Some(b'/'),
        None => service.len().checked_sub(n - method.len() - 1).map(|at| service[at]),
    };
    let len = 2 + service.len() + method.len();
    let hash = hash_of(len, from_end(7)?, from_end(3)?);
    let row = usize::from(SLOTS[usize::from(hash)]);
    let route = ROUTES.get(row)?;
    let path = route.path.as_bytes();
    let matches =
        path.len() == len && path[1..=service.len()] == *service && path[len - method.len()..] == *method;
    matches.then_some((row, route))
}

/// The method that stands in this row of the table.
pub fn method_of(row: MethodId) -> Method {
    ROUTES[usize::from(row.0)].method
}

/// Which sides of the method in a row stream.
pub fn kind_of(row: MethodId) -> Kind {
    ROUTES[usize::from(row.0)].kind
}

/// Whether any method of the table is of this service.
pub fn has_service(service: &str) -> bool {
    ROUTES.iter().any(|route| route.service() == service)
}

/// What grpc-go answers to a path that is not in the table.
#[cold]
fn unknown(path: &[u8]) -> Refusal {
    let inner = path.strip_prefix(b"/").unwrap_or(path);
    let Some(slash) = inner.iter().rposition(|byte| *byte == b'/') else {
        return Refusal::new(Code::Unimplemented, format!("malformed method name: {}", quote(path)));
    };
    let service = String::from_utf8_lossy(&inner[..slash]);
    let name = String::from_utf8_lossy(&inner[slash + 1..]);
    if has_service(&service) {
        unknown_method(&name, &service)
    } else {
        Refusal::new(Code::Unimplemented, format!("unknown service {service}"))
    }
}

fn unknown_method(name: &str, service: &str) -> Refusal {
    Refusal::new(Code::Unimplemented, format!("unknown method {name} for service {service}"))
}

/// A hash without collisions between the paths of the table; found by trial, checked at compile time.
///
/// So one look-up and one comparison find a path, whichever it is.
const fn hash(path: &[u8]) -> Option<u8> {
    let len = path.len();
    if len < 7 {
        return None;
    }
    Some(hash_of(len, path[len - 7], path[len - 3]))
}

const fn hash_of(len: usize, a: u8, b: u8) -> u8 {
    (len as u8).wrapping_add(a.wrapping_mul(53)).wrapping_add(b)
}

/// Row of each hash; [`NO_ROUTE`] where there is none.
const SLOTS: &[u8; 256] = &slots();
const NO_ROUTE: u8 = u8::MAX;

const fn slots() -> [u8; 256] {
    let mut slots = [NO_ROUTE; 256];
    let mut i = 0;
    while i < ROUTES.len() {
        let Some(hash) = hash(ROUTES[i].path.as_bytes()) else { panic!("a path is too short to be hashed") };
        assert!(slots[hash as usize] == NO_ROUTE, "two paths have one hash: choose another factor");
        slots[hash as usize] = i as u8;
        i += 1;
    }
    slots
}

const fn row(method: Method, path: &'static str, kind: Kind) -> Route {
    Route { method, path, kind }
}

/// Every method, by service.
pub const ROUTES: &[Route] = &[
    row(Method::Kv(KvMethod::Range), "/etcdserverpb.KV/Range", Kind::Unary),
    row(Method::Kv(KvMethod::Put), "/etcdserverpb.KV/Put", Kind::Unary),
    row(Method::Kv(KvMethod::DeleteRange), "/etcdserverpb.KV/DeleteRange", Kind::Unary),
    row(Method::Kv(KvMethod::Txn), "/etcdserverpb.KV/Txn", Kind::Unary),
    row(Method::Kv(KvMethod::Compact), "/etcdserverpb.KV/Compact", Kind::Unary),
    row(Method::Watch, "/etcdserverpb.Watch/Watch", Kind::BidiStream),
    row(Method::LeaseGrant, "/etcdserverpb.Lease/LeaseGrant", Kind::Unary),
    row(Method::LeaseRevoke, "/etcdserverpb.Lease/LeaseRevoke", Kind::Unary),
    row(Method::LeaseKeepAlive, "/etcdserverpb.Lease/LeaseKeepAlive", Kind::BidiStream),
    row(Method::LeaseTimeToLive, "/etcdserverpb.Lease/LeaseTimeToLive", Kind::Unary),
    row(Method::LeaseLeases, "/etcdserverpb.Lease/LeaseLeases", Kind::Unary),
    row(Method::MemberAdd, "/etcdserverpb.Cluster/MemberAdd", Kind::Unary),
    row(Method::MemberRemove, "/etcdserverpb.Cluster/MemberRemove", Kind::Unary),
    row(Method::MemberUpdate, "/etcdserverpb.Cluster/MemberUpdate", Kind::Unary),
    row(Method::MemberList, "/etcdserverpb.Cluster/MemberList", Kind::Unary),
    row(Method::MemberPromote, "/etcdserverpb.Cluster/MemberPromote", Kind::Unary),
    row(Method::Alarm, "/etcdserverpb.Maintenance/Alarm", Kind::Unary),
    row(Method::Status, "/etcdserverpb.Maintenance/Status", Kind::Unary),
    row(Method::Defragment, "/etcdserverpb.Maintenance/Defragment", Kind::Unary),
    row(Method::Hash, "/etcdserverpb.Maintenance/Hash", Kind::Unary),
    row(Method::HashKV, "/etcdserverpb.Maintenance/HashKV", Kind::Unary),
    row(Method::Snapshot, "/etcdserverpb.Maintenance/Snapshot", Kind::ServerStream),
    row(Method::MoveLeader, "/etcdserverpb.Maintenance/MoveLeader", Kind::Unary),
    row(Method::Downgrade, "/etcdserverpb.Maintenance/Downgrade", Kind::Unary),
    row(Method::AuthEnable, "/etcdserverpb.Auth/AuthEnable", Kind::Unary),
    row(Method::AuthDisable, "/etcdserverpb.Auth/AuthDisable", Kind::Unary),
    row(Method::AuthStatus, "/etcdserverpb.Auth/AuthStatus", Kind::Unary),
    row(Method::Authenticate, "/etcdserverpb.Auth/Authenticate", Kind::Unary),
    row(Method::AuthUserAdd, "/etcdserverpb.Auth/UserAdd", Kind::Unary),
    row(Method::AuthUserGet, "/etcdserverpb.Auth/UserGet", Kind::Unary),
    row(Method::AuthUserList, "/etcdserverpb.Auth/UserList", Kind::Unary),
    row(Method::AuthUserDelete, "/etcdserverpb.Auth/UserDelete", Kind::Unary),
    row(Method::AuthUserChangePassword, "/etcdserverpb.Auth/UserChangePassword", Kind::Unary),
    row(Method::AuthUserGrantRole, "/etcdserverpb.Auth/UserGrantRole", Kind::Unary),
    row(Method::AuthUserRevokeRole, "/etcdserverpb.Auth/UserRevokeRole", Kind::Unary),
    row(Method::AuthRoleAdd, "/etcdserverpb.Auth/RoleAdd", Kind::Unary),
    row(Method::AuthRoleGet, "/etcdserverpb.Auth/RoleGet", Kind::Unary),
    row(Method::AuthRoleList, "/etcdserverpb.Auth/RoleList", Kind::Unary),
    row(Method::AuthRoleDelete, "/etcdserverpb.Auth/RoleDelete", Kind::Unary),
    row(Method::AuthRoleGrantPermission, "/etcdserverpb.Auth/RoleGrantPermission", Kind::Unary),
    row(Method::AuthRoleRevokePermission, "/etcdserverpb.Auth/RoleRevokePermission", Kind::Unary),
    row(Method::Lock, "/v3lockpb.Lock/Lock", Kind::Unary),
    row(Method::Unlock, "/v3lockpb.Lock/Unlock", Kind::Unary),
    row(Method::ElectionCampaign, "/v3electionpb.Election/Campaign", Kind::Unary),
    row(Method::ElectionProclaim, "/v3electionpb.Election/Proclaim", Kind::Unary),
    row(Method::ElectionLeader, "/v3electionpb.Election/Leader", Kind::Unary),
    row(Method::ElectionObserve, "/v3electionpb.Election/Observe", Kind::ServerStream),
    row(Method::ElectionResign, "/v3electionpb.Election/Resign", Kind::Unary),
    row(Method::HealthCheck, "/grpc.health.v1.Health/Check", Kind::Unary),
    row(Method::HealthList, "/grpc.health.v1.Health/List", Kind::Unary),
    row(Method::HealthWatch, "/grpc.health.v1.Health/Watch", Kind::ServerStream),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pb::DESCRIPTORS;
    use prost::Message;
    use prost_types::FileDescriptorSet;

    #[test]
    fn the_table_is_what_the_proto_files_declare() {
        let mut declared = Vec::new();
        for file in FileDescriptorSet::decode(DESCRIPTORS).unwrap().file {
            for service in &file.service {
                for method in &service.method {
                    let path = format!("/{}.{}/{}", file.package(), service.name(), method.name());
                    let kind = match (method.client_streaming(), method.server_streaming()) {
                        (false, false) => Kind::Unary,
                        (false, true) => Kind::ServerStream,
                        (true, true) => Kind::BidiStream,
                        (true, false) => panic!("{path} streams requests alone"),
                    };
                    declared.push((path, kind));
                }
            }
        }
        let mut routes: Vec<_> = ROUTES.iter().map(|route| (route.path.to_string(), route.kind)).collect();
        declared.sort_by(|a, b| a.0.cmp(&b.0));
        routes.sort_by(|a, b| a.0.cmp(&b.0));
        assert_eq!(routes, declared);
    }

    #[test]
    fn every_path_finds_its_own_row() {
        for route in ROUTES {
            assert_eq!(find(route.path.as_bytes()), Ok(route));
            assert_eq!(format!("/{}/{}", route.service(), route.name()), route.path);
        }
        assert_eq!(find(b"/etcdserverpb.KV/Put").unwrap().method, Method::Kv(KvMethod::Put));
    }

    #[test]
    fn unknown_paths_are_answered_as_grpc_go_does() {
        let check = |path: &[u8], text: &str| {
            let refusal = find(path).unwrap_err();
            assert_eq!((refusal.code, refusal.message.as_ref()), (Code::Unimplemented, text), "{path:?}");
        };
        check(b"/etcdserverpb.KV/Nope", "unknown method Nope for service etcdserverpb.KV");
        check(b"/etcdserverpb.KV/RangeStream", "unknown method RangeStream for service etcdserverpb.KV");
        check(b"/etcdserverpb.KV/", "unknown method  for service etcdserverpb.KV");
        check(b"/etcdserverpb.KV/Pu\xff", "unknown method Pu\u{fffd} for service etcdserverpb.KV");
        check(b"/foo.Bar/X", "unknown service foo.Bar");
        check(b"/a/b/c", "unknown service a/b");
        check(b"//x", "unknown service ");
        check(b"/nopath", "malformed method name: \"/nopath\"");
        check(b"/no\"path%20\\", "malformed method name: \"/no\\\"path%20\\\\\"");
        check(b"", "malformed method name: \"\"");
        let text = "unknown method LeaseGrant for service etcdserverpb.Lease";
        assert_eq!(find(b"/etcdserverpb.Lease/LeaseGrant").unwrap().unimplemented().message, text);
    }
}
