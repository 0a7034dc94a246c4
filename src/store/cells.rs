//! Values on their way from the local file to Postgres.

use rusqlite::Row as Found;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use crate::store::rows;

/// What a column holds in Postgres.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Uuid,
    Text,
    Integer,
    Real,
    Bool,
}

impl Kind {
    /// The type of an array of them, as Postgres names it.
    pub(super) fn array(self) -> &'static str {
        match self {
            Self::Uuid => "uuid[]",
            Self::Text => "text[]",
            Self::Integer => "bigint[]",
            Self::Real => "float8[]",
            Self::Bool => "boolean[]",
        }
    }
}

/// A value on its way.
#[derive(Debug, Clone, PartialEq, PartialOrd)]
pub(super) enum Cell {
    Null,
    Uuid(Uuid),
    Text(String),
    Integer(i64),
    Real(f64),
    Bool(bool),
}

/// An array for one column, in the form that a statement takes.
pub(super) type Array<'a> = Box<dyn ToSql + Sync + Send + 'a>;

impl Cell {
    /// The value of a column in the local file.
    pub(super) fn read(row: &Found<'_>, index: usize, kind: Kind) -> rusqlite::Result<Self> {
        if row.get_ref(index)? == rusqlite::types::ValueRef::Null {
            return Ok(Self::Null);
        }
        Ok(match kind {
            Kind::Uuid => Self::Uuid(rows::uuid(row, index)?),
            Kind::Text => Self::Text(row.get(index)?),
            Kind::Integer => Self::Integer(row.get(index)?),
            Kind::Real => Self::Real(row.get(index)?),
            Kind::Bool => Self::Bool(row.get(index)?),
        })
    }

    pub(super) fn as_uuid(&self) -> Option<Uuid> {
        if let Self::Uuid(it) = self { Some(*it) } else { None }
    }

    pub(super) fn as_text(&self) -> Option<&str> {
        if let Self::Text(it) = self { Some(it) } else { None }
    }

    pub(super) fn as_integer(&self) -> Option<i64> {
        if let Self::Integer(it) = self { Some(*it) } else { None }
    }

    pub(super) fn as_real(&self) -> Option<f64> {
        if let Self::Real(it) = self { Some(*it) } else { None }
    }

    pub(super) fn as_bool(&self) -> Option<bool> {
        if let Self::Bool(it) = self { Some(*it) } else { None }
    }

    pub(super) fn json(&self) -> serde_json::Value {
        match self {
            Self::Null => serde_json::Value::Null,
            Self::Uuid(it) => it.to_string().into(),
            Self::Text(it) => it.as_str().into(),
            Self::Integer(it) => (*it).into(),
            Self::Real(it) => (*it).into(),
            Self::Bool(it) => (*it).into(),
        }
    }
}
