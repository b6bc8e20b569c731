//! Paths into a JSON body (`$body.a.list[0].b`), and the plan of all paths that a table asks for.
//!
//! A path is names joined by dots, each with any number of `[index]` behind it. All paths of a table
//! are merged into one tree, so that one pass over the body answers every route.

/// Step of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    Name(Box<str>),
    Index(usize),
}

/// What is wrong with a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    #[error("the path is empty")]
    Empty,
    #[error("the path has an empty name")]
    EmptyName,
    #[error("a name of the path cannot be a number only")]
    NumericName,
    #[error("'*' cannot stand in a path")]
    Star,
    #[error("an index has the form [0] behind a name")]
    Index,
    #[error("the path holds a character that cannot stand in a name")]
    Character,
    #[error("the path has more than {MAX_PATH_STEPS} steps")]
    TooDeep,
    #[error("the path must begin with properties.reported., properties.desired. or tags.")]
    TwinPrefix,
}

/// The reader of bodies goes no deeper.
const MAX_PATH_STEPS: usize = 128;

/// Check and split a path.
///
/// # Errors
/// As [`PathError`] says; [`PathError::TwinPrefix`] is not among them.
pub(crate) fn parse(path: &str) -> Result<Vec<Step>, PathError> {
    if path.is_empty() {
        return Err(PathError::Empty);
    }
    let mut steps = Vec::new();
    for part in path.split('.') {
        let (name, indexes) = part.split_at(part.find('[').unwrap_or(part.len()));
        steps.push(Step::Name(name_of(name)?.into()));
        let mut rest = indexes;
        while !rest.is_empty() {
            let (index, after) = rest
                .strip_prefix('[')
                .and_then(|inner| inner.split_once(']'))
                .ok_or(PathError::Index)?;
            if index.is_empty() || !index.bytes().all(|b| b.is_ascii_digit()) {
                return Err(PathError::Index);
            }
            // An index beyond every list is simply not found.
            steps.push(Step::Index(index.parse().unwrap_or(usize::MAX)));
            rest = after;
        }
    }
    if steps.len() > MAX_PATH_STEPS {
        return Err(PathError::TooDeep);
    }
    // A leading `$` is the root itself.
    if steps.len() > 1 && steps[0] == Step::Name("$".into()) {
        steps.remove(0);
    }
    Ok(steps)
}

fn name_of(name: &str) -> Result<&str, PathError> {
    let forbidden = |c: char| {
        matches!(
            c,
            '(' | ')'
                | '<'
                | '>'
                | '@'
                | ','
                | ';'
                | ':'
                | '\\'
                | '"'
                | '/'
                | ']'
                | '?'
                | '='
                | '{'
                | '}'
                | '\t'
                | '\n'
                | '\r'
        )
    };
    match name {
        "" => Err(PathError::EmptyName),
        "*" => Err(PathError::Star),
        _ if name.bytes().all(|b| b.is_ascii_digit()) => Err(PathError::NumericName),
        _ if name.contains(forbidden) => Err(PathError::Character),
        _ => Ok(name),
    }
}

/// As [`parse`], for `twin_change_includes`.
///
/// # Errors
/// Also [`PathError::TwinPrefix`].
pub(crate) fn parse_twin(path: &str) -> Result<Vec<Step>, PathError> {
    let steps = parse(path)?;
    let begins = |prefix: &str| {
        path.get(..prefix.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(prefix))
    };
    if ["properties.reported.", "properties.desired.", "tags."].iter().any(|p| begins(p)) {
        Ok(steps)
    } else {
        Err(PathError::TwinPrefix)
    }
}

/// Place of a path's value among the values of a body.
pub(crate) type Slot = usize;

/// Tree of the paths of one table.
#[derive(Debug, Clone)]
pub(crate) struct BodyPlan {
    nodes: Vec<PlanNode>,
    slots: usize,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct PlanNode {
    pub(crate) slot: Option<Slot>,
    children: Vec<(Step, usize)>,
}

impl Default for BodyPlan {
    fn default() -> Self {
        Self { nodes: vec![PlanNode::default()], slots: 0 }
    }
}

impl BodyPlan {
    pub(crate) const ROOT: usize = 0;

    /// The slot of a path; the same one for the same path.
    pub(crate) fn add(&mut self, path: &[Step]) -> Slot {
        let mut node = Self::ROOT;
        for step in path {
            let known = self.nodes[node].children.iter().find(|(s, _)| s == step);
            node = match known {
                Some((_, child)) => *child,
                None => {
                    let child = self.nodes.len();
                    self.nodes.push(PlanNode::default());
                    self.nodes[node].children.push((step.clone(), child));
                    child
                }
            };
        }
        let next = self.slots;
        let slot = *self.nodes[node].slot.get_or_insert(next);
        if slot == next {
            self.slots += 1;
        }
        slot
    }

    pub(crate) fn slots(&self) -> usize {
        self.slots
    }

    pub(crate) fn node(&self, node: usize) -> &PlanNode {
        &self.nodes[node]
    }

    pub(crate) fn child_name(&self, node: usize, name: &str) -> Option<usize> {
        let found = |(step, _): &&(Step, usize)| matches!(step, Step::Name(n) if **n == *name);
        self.nodes[node].children.iter().find(found).map(|(_, child)| *child)
    }

    pub(crate) fn child_index(&self, node: usize, index: usize) -> Option<usize> {
        let found = |(step, _): &&(Step, usize)| *step == Step::Index(index);
        self.nodes[node].children.iter().find(found).map(|(_, child)| *child)
    }

    /// All slots at and below a node.
    pub(crate) fn for_each_slot(&self, node: usize, visit: &mut impl FnMut(Slot)) {
        if let Some(slot) = self.nodes[node].slot {
            visit(slot);
        }
        for (_, child) in &self.nodes[node].children {
            self.for_each_slot(*child, visit);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_names_and_indexes() {
        let steps = parse("I'm!.list[0][12].x y").unwrap();
        assert_eq!(
            steps,
            [
                Step::Name("I'm!".into()),
                Step::Name("list".into()),
                Step::Index(0),
                Step::Index(12),
                Step::Name("x y".into()),
            ]
        );
        for (path, error) in [
            ("", PathError::Empty),
            ("a.", PathError::EmptyName),
            ("a..b", PathError::EmptyName),
            ("a[", PathError::Index),
            ("a[]", PathError::Index),
            ("a[1:2]", PathError::Index),
            ("a[0]b", PathError::Index),
            ("[0]", PathError::EmptyName),
            ("a]", PathError::Character),
            ("a.5", PathError::NumericName),
            ("a.*", PathError::Star),
            (&"a.".repeat(200), PathError::EmptyName),
            (&format!("{}a", "a.".repeat(128)), PathError::TooDeep),
        ] {
            assert_eq!(parse(path), Err(error), "{path}");
        }
    }

    #[test]
    fn the_same_path_has_one_slot() {
        let mut plan = BodyPlan::default();
        let a = plan.add(&parse("a.b").unwrap());
        let b = plan.add(&parse("a").unwrap());
        assert_ne!(a, b);
        assert_eq!(plan.add(&parse("a.b").unwrap()), a);
        assert_eq!(plan.slots(), 2);
    }
}
