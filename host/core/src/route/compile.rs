//! Types of a condition: from its parsed form to its [`Program`].
//!
//! Types are static, as in the original: properties are texts, arithmetic wants numbers, and so on;
//! only body values are dynamic. An error points at the operand that does not fit, and says how to
//! convert it.

use super::ast::{BinaryOp, Expr, ExprKind, Literal};
use super::error::{ErrorKind, ParseError, Span};
use super::functions::{Function, TWIN_CHANGE_INCLUDES};
use super::json_path::{self, BodyPlan};
use super::program::{CompileOptions, Node, NodeIndex, Program};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Type {
    Undefined,
    Null,
    Bool,
    Number,
    Text,
    /// Known only when the body is read.
    Dynamic,
}

impl Type {
    fn name(self) -> &'static str {
        match self {
            Type::Undefined => "undefined",
            Type::Null => "null",
            Type::Bool => "a boolean",
            Type::Number => "a number",
            Type::Text => "a text",
            Type::Dynamic => "a body value",
        }
    }

    /// Whether a value of this type can stand where `wanted` is.
    fn fits(self, wanted: Type) -> bool {
        self == wanted
            || self == Type::Dynamic && wanted != Type::Undefined
            || wanted == Type::Dynamic && self != Type::Undefined
    }
}

/// Check types. `text` is what the spans of `expr` refer to; body paths are added to `plan`.
pub(crate) fn compile(
    expr: &Expr,
    text: &str,
    options: CompileOptions,
    plan: &mut BodyPlan,
) -> Result<Program, ParseError> {
    let mut compiler = Compiler { text, options, plan, nodes: Vec::new() };
    let (root, root_type) = compiler.expr(expr)?;
    let root = compiler.truth(root, root_type, expr.span);
    Ok(Program::new(compiler.nodes, root))
}

struct Compiler<'c> {
    text: &'c str,
    options: CompileOptions,
    plan: &'c mut BodyPlan,
    nodes: Vec<(Node, Span)>,
}

type Typed = (NodeIndex, Type);

impl Compiler<'_> {
    fn push(&mut self, node: Node, span: Span) -> NodeIndex {
        // A text of `MAX_TEXT_BYTES` has fewer nodes than an index can count.
        let index = NodeIndex::try_from(self.nodes.len()).unwrap_or(NodeIndex::MAX);
        self.nodes.push((node, span));
        index
    }

    /// A property or body query that stands several times is one node, so that an explanation names
    /// it once.
    fn push_leaf(&mut self, node: Node, span: Span) -> NodeIndex {
        let known = self.nodes.iter().position(|(known, _)| match (known, &node) {
            (Node::Property(a), Node::Property(b))
            | (Node::Dollar(a), Node::Dollar(b))
            | (Node::System(a), Node::System(b)) => a.eq_ignore_ascii_case(b),
            (Node::Body { slot: a, hidden_by: x }, Node::Body { slot: b, hidden_by: y }) => {
                a == b && x == y
            }
            _ => false,
        });
        match known.and_then(|index| NodeIndex::try_from(index).ok()) {
            Some(index) => index,
            None => self.push(node, span),
        }
    }

    fn expr(&mut self, expr: &Expr) -> Result<Typed, ParseError> {
        let span = expr.span;
        match &expr.kind {
            ExprKind::Literal(literal) => Ok(self.literal(literal.clone(), span)),
            ExprKind::Property(name) => {
                Ok((self.push_leaf(Node::Property(name.as_str().into()), span), Type::Text))
            }
            ExprKind::Dollar(name) => self.dollar(name, span, false),
            ExprKind::Braced(name) => self.dollar(name, span, true),
            ExprKind::Call { name, place, args } => self.call(name, place.0, args, span),
            ExprKind::Negate(operand) => {
                let (node, given) = self.expr(operand)?;
                self.want(given, Type::Number, operand, "'-'")?;
                Ok((self.push(Node::Negate(node), span), Type::Number))
            }
            ExprKind::Not(operand) => self.not(operand, span),
            ExprKind::Binary { op, left, right } => self.binary(*op, left, right, span),
            ExprKind::And(operands) => self.logic(operands, span, true),
            ExprKind::Or(operands) => self.logic(operands, span, false),
        }
    }

    fn literal(&mut self, literal: Literal, span: Span) -> Typed {
        let kind = match &literal {
            Literal::Undefined => Type::Undefined,
            Literal::Null => Type::Null,
            Literal::Bool(_) => Type::Bool,
            Literal::Number(_) => Type::Number,
            Literal::Text(_) => Type::Text,
        };
        (self.push(Node::Literal(literal), span), kind)
    }

    /// `$name` or, `braced`, `{$name}`.
    fn dollar(&mut self, name: &str, span: Span, braced: bool) -> Result<Typed, ParseError> {
        const BODY: &str = "$body.";
        let has_brackets = name.contains(['[', ']']);
        let is_body = name.get(..BODY.len()).is_some_and(|p| p.eq_ignore_ascii_case(BODY));
        if is_body && self.options.body_query {
            let steps = json_path::parse(&name[BODY.len()..])
                .map_err(|error| self.error(ErrorKind::Path, span, format!("$body: {error}")))?;
            let slot = self.plan.add(&steps);
            // Property names hold no brackets, so a query with one is not hidden.
            let hidden_by = (!braced && !has_brackets).then(|| name.into());
            return Ok((self.push_leaf(Node::Body { slot, hidden_by }, span), Type::Dynamic));
        }
        if has_brackets {
            return Ok(self.literal(Literal::Undefined, span));
        }
        let node = if braced { Node::System(name[1..].into()) } else { Node::Dollar(name.into()) };
        Ok((self.push_leaf(node, span), Type::Text))
    }

    fn not(&mut self, operand: &Expr, span: Span) -> Result<Typed, ParseError> {
        let (node, given) = self.expr(operand)?;
        if given == Type::Null {
            return Ok(self.literal(Literal::Bool(true), span));
        }
        self.want(given, Type::Bool, operand, "NOT")?;
        let node = self.truth(node, given, operand.span);
        Ok((self.push(Node::Not(node), span), Type::Bool))
    }

    fn logic(&mut self, operands: &[Expr], span: Span, and: bool) -> Result<Typed, ParseError> {
        let mut nodes = Vec::new();
        let mut nulls = 0;
        let mut first = Type::Undefined;
        for (place, operand) in operands.iter().enumerate() {
            let (node, given) = self.expr(operand)?;
            if place == 0 {
                first = given;
            }
            // As in the original, anything may stand next to a body value that comes first.
            let beside_body = place == 1 && first == Type::Dynamic;
            if !beside_body && matches!(given, Type::Number | Type::Text) {
                let name = if and { "AND" } else { "OR" };
                self.want(given, Type::Bool, operand, name)?;
            }
            match given {
                Type::Null => nulls += 1,
                _ => nodes.push(self.truth(node, given, operand.span)),
            }
        }
        // null AND x is null; null OR x is x.
        if and && nulls > 0 || nodes.is_empty() {
            return Ok(self.literal(Literal::Null, span));
        }
        let nodes = nodes.into();
        let node = if and { Node::And(nodes) } else { Node::Or(nodes) };
        Ok((self.push(node, span), Type::Bool))
    }

    /// The node where a boolean is wanted.
    fn truth(&mut self, node: NodeIndex, given: Type, span: Span) -> NodeIndex {
        match given {
            Type::Bool | Type::Null | Type::Undefined => node,
            Type::Dynamic | Type::Text | Type::Number => self.push(Node::AsBool(node), span),
        }
    }

    fn binary(
        &mut self,
        op: BinaryOp,
        left: &Expr,
        right: &Expr,
        span: Span,
    ) -> Result<Typed, ParseError> {
        let (l, left_type) = self.expr(left)?;
        let (r, right_type) = self.expr(right)?;
        let wanted = match op {
            BinaryOp::Multiply
            | BinaryOp::Divide
            | BinaryOp::Modulo
            | BinaryOp::Add
            | BinaryOp::Subtract => Some(Type::Number),
            BinaryOp::Concat => Some(Type::Text),
            _ => None,
        };
        if let Some(wanted) = wanted {
            let operator = format!("'{op}'");
            self.want(left_type, wanted, left, &operator)?;
            self.want(right_type, wanted, right, &operator)?;
        } else if !right_type.fits(left_type) {
            return Err(self.mismatch(op, (left, left_type), (right, right_type)));
        }
        let dynamic = left_type == Type::Dynamic || right_type == Type::Dynamic;
        let (node, result) = match (op, wanted) {
            (BinaryOp::Concat, _) => {
                let args = Box::new([l, r]);
                (Node::Call { function: Function::Concat, args, dynamic }, Type::Text)
            }
            (_, Some(_)) => (
                Node::Calculate { op, left: l, right: r },
                if dynamic { Type::Dynamic } else { Type::Number },
            ),
            // Nothing is undefined by type but the word itself.
            (BinaryOp::Coalesce, _) if left_type == Type::Undefined => return Ok((r, right_type)),
            (BinaryOp::Coalesce, _) => {
                (Node::Coalesce(l, r), if dynamic { Type::Dynamic } else { left_type })
            }
            _ => (Node::Compare { op, left: l, right: r, dynamic }, Type::Bool),
        };
        Ok((self.push(node, span), result))
    }

    fn call(
        &mut self,
        name: &str,
        name_span: Span,
        args: &[Expr],
        span: Span,
    ) -> Result<Typed, ParseError> {
        if name.eq_ignore_ascii_case(TWIN_CHANGE_INCLUDES) {
            return self.twin_change_includes(name_span, args, span);
        }
        let Some(function) = Function::from_name(name) else {
            let help = Function::closest(name).map(|word| format!("did you mean {word}?"));
            let message = format!("unknown function '{name}'");
            return Err(self.error(ErrorKind::UnknownFunction, name_span, message).with_help(help));
        };
        let signature = function.signature();
        if !signature.takes(args.len()) {
            let message = format!(
                "{} takes another number of arguments, given {}",
                signature.shown,
                args.len()
            );
            return Err(self.error(ErrorKind::Arguments, name_span, message));
        }
        let mut nodes = Vec::with_capacity(args.len());
        let mut first = Type::Undefined;
        for (place, arg) in args.iter().enumerate() {
            let (node, given) = self.expr(arg)?;
            if place == 0 {
                first = given;
            }
            let number_again = function == Function::AsNumber && given == Type::Number;
            if let Some(wanted) = signature.argument(place)
                && !given.fits(wanted)
                && !number_again
            {
                let message = format!(
                    "{} wants {}, this is {}",
                    signature.shown,
                    wanted.name(),
                    given.name()
                );
                let error = self.error(ErrorKind::Arguments, arg.span, message);
                return Err(error.with_help(conversion_help(arg, given, wanted)));
            }
            nodes.push(node);
        }
        if let Some(known) = known_by_type(function, first) {
            return Ok(self.literal(Literal::Bool(known), span));
        }
        let dynamic = first == Type::Dynamic;
        let node = Node::Call { function, args: nodes.into(), dynamic };
        Ok((self.push(node, span), signature.result))
    }

    fn twin_change_includes(
        &mut self,
        name_span: Span,
        args: &[Expr],
        span: Span,
    ) -> Result<Typed, ParseError> {
        if !self.options.twin_change_includes || !self.options.twin_change_source {
            let message = format!("{TWIN_CHANGE_INCLUDES} is not available in this route");
            let help = "as in IoT Edge, only a route that is bound to twin changes can use it";
            return Err(self
                .error(ErrorKind::FunctionNotAvailable, name_span, message)
                .with_help(help.to_owned()));
        }
        let (path, at) = match args {
            [Expr { kind: ExprKind::Property(path), span, .. }] => (path.as_str(), *span),
            [other, ..] => (other.span.of(self.text), other.span),
            [] => ("", name_span),
        };
        let steps = if args.len() > 1 {
            Err(json_path::PathError::Character)
        } else {
            json_path::parse_twin(path)
        };
        let steps = steps.map_err(|error| {
            self.error(ErrorKind::Path, at, format!("{TWIN_CHANGE_INCLUDES}: {error}"))
        })?;
        let slot = self.plan.add(&steps);
        Ok((self.push(Node::TwinIncludes(slot), span), Type::Bool))
    }

    fn want(
        &self,
        given: Type,
        wanted: Type,
        operand: &Expr,
        operator: &str,
    ) -> Result<(), ParseError> {
        if given.fits(wanted) {
            return Ok(());
        }
        let message = format!("{operator} wants {}, this is {}", wanted.name(), given.name());
        let error = self.error(ErrorKind::Type, operand.span, message);
        Err(error.with_help(conversion_help(operand, given, wanted)))
    }

    fn mismatch(&self, op: BinaryOp, left: (&Expr, Type), right: (&Expr, Type)) -> ParseError {
        let ((l, left_type), (r, right_type)) = (left, right);
        let message =
            format!("'{op}' cannot compare {} with {}", left_type.name(), right_type.name());
        let quoted = |literal: &Expr, other: Type| match &literal.kind {
            ExprKind::Literal(word @ Literal::Bool(_)) if other == Type::Text => {
                Some(format!("a property is a text: compare it with the text '{word}'"))
            }
            _ => None,
        };
        let help = quoted(l, right_type)
            .or_else(|| quoted(r, left_type))
            .or_else(|| conversion_help(r, right_type, left_type))
            .or_else(|| conversion_help(l, left_type, right_type));
        // The operand that can be converted is the wrong word; else the right one.
        let at = if left_type == Type::Text && right_type == Type::Number { l } else { r };
        self.error(ErrorKind::Type, at.span, message).with_help(help)
    }

    fn error(&self, kind: ErrorKind, span: Span, message: impl Into<String>) -> ParseError {
        ParseError::new(kind, self.text, span, message)
    }
}

/// What the type-testing functions answer whatever the value is.
fn known_by_type(function: Function, given: Type) -> Option<bool> {
    match function {
        Function::IsBool => (!given.fits(Type::Bool)).then_some(false),
        Function::IsNumber => (!given.fits(Type::Number)).then_some(false),
        Function::IsString => (!given.fits(Type::Text)).then_some(false),
        Function::IsDefined => match given {
            Type::Undefined => Some(false),
            Type::Null => Some(true),
            _ => None,
        },
        Function::IsNull => match given {
            Type::Null => Some(true),
            Type::Text | Type::Dynamic => None,
            _ => Some(false),
        },
        _ => None,
    }
}

fn conversion_help(operand: &Expr, given: Type, wanted: Type) -> Option<String> {
    match (&operand.kind, given, wanted) {
        (ExprKind::Literal(Literal::Text(text)), Type::Text, Type::Number)
            if text.parse::<f64>().is_ok() =>
        {
            Some(format!("a number is written without quotes: {text}"))
        }
        (ExprKind::Property(name), Type::Text, Type::Bool)
            if ["true", "false"].iter().any(|word| name.eq_ignore_ascii_case(word)) =>
        {
            let word = name.to_ascii_lowercase();
            Some(format!("'{name}' is read as a property; write {word} in small letters"))
        }
        (ExprKind::Property(name), Type::Text, _) if looks_like_operators(name) => {
            Some(format!("'{name}' is read as the name of a property; operators need spaces"))
        }
        (_, Type::Text, Type::Number) => {
            Some(format!("a property is a text: write as_number({operand})"))
        }
        (
            ExprKind::Property(_) | ExprKind::Dollar(_) | ExprKind::Braced(_),
            Type::Text,
            Type::Bool,
        ) => Some(format!("a property is a text: write {operand} = 'true'")),
        _ => None,
    }
}

/// Whether a name is likely meant as an expression: `3+4`, `a*b`, `'a'||'b'`.
pub(crate) fn looks_like_operators(name: &str) -> bool {
    name.contains(['+', '*', '%', '|', '\'', '!', '&'])
        || name.split('-').count() > 1 && name.starts_with(|c: char| c.is_ascii_digit() || c == '-')
}
