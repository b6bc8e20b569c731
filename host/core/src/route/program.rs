//! A condition in the form that is evaluated, and the options it is compiled with.
//!
//! Made by [`super::compile`]. Nodes refer to nodes before them, so evaluation ends.

use super::ast::{BinaryOp, Literal};
use super::error::Span;
use super::facts::Source;
use super::functions::Function;
use super::json_path::Slot;

/// What is switched on for a condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CompileOptions {
    /// `$body.path` reads the body; else it is an ordinary system property.
    pub body_query: bool,
    /// `twin_change_includes` exists. It also needs a twin-change source.
    pub twin_change_includes: bool,
    /// The route is bound to twin changes. Routes of a manifest never are: they are compiled with
    /// a general source whatever their text says, and so cannot use `twin_change_includes`.
    pub twin_change_source: bool,
}

impl CompileOptions {
    /// As routes of a manifest are compiled.
    pub const MANIFEST: Self =
        Self { body_query: true, twin_change_includes: true, twin_change_source: false };

    /// As a condition alone is compiled for a test on a message: everything on, and
    /// `twin_change_includes` for messages that are twin changes.
    pub fn for_message(source: Source<'_>) -> Self {
        Self { twin_change_source: source.is_twin_change(), ..Self::MANIFEST }
    }
}

impl Default for CompileOptions {
    fn default() -> Self {
        Self::MANIFEST
    }
}

pub(crate) type NodeIndex = u16;

#[derive(Debug, Clone)]
pub(crate) enum Node {
    Literal(Literal),
    Property(Box<str>),
    /// `$name` with the `$`: the application property of that name, else the system property.
    Dollar(Box<str>),
    /// System property, without `$`.
    System(Box<str>),
    /// Body value; an application property that is called like the query hides it.
    Body {
        slot: Slot,
        hidden_by: Option<Box<str>>,
    },
    TwinIncludes(Slot),
    Negate(NodeIndex),
    /// A body value where a boolean is wanted: undefined unless it is one.
    AsBool(NodeIndex),
    Not(NodeIndex),
    Calculate {
        op: BinaryOp,
        left: NodeIndex,
        right: NodeIndex,
    },
    Compare {
        op: BinaryOp,
        left: NodeIndex,
        right: NodeIndex,
        dynamic: bool,
    },
    And(Box<[NodeIndex]>),
    Or(Box<[NodeIndex]>),
    Coalesce(NodeIndex, NodeIndex),
    Call {
        function: Function,
        args: Box<[NodeIndex]>,
        dynamic: bool,
    },
}

#[derive(Debug, Clone)]
pub(crate) struct Program {
    nodes: Vec<(Node, Span)>,
    root: NodeIndex,
}

impl Program {
    pub(crate) fn new(nodes: Vec<(Node, Span)>, root: NodeIndex) -> Self {
        Self { nodes, root }
    }

    pub(crate) fn root(&self) -> NodeIndex {
        self.root
    }

    pub(crate) fn node(&self, index: NodeIndex) -> &Node {
        &self.nodes[usize::from(index)].0
    }

    /// The text of a node; default for an index of another program.
    pub(crate) fn span(&self, index: NodeIndex) -> Span {
        self.nodes.get(usize::from(index)).map(|(_, span)| *span).unwrap_or_default()
    }
}
