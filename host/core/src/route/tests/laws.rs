//! Laws of the route language, on random texts, tables and messages.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::ast::{BinaryOp, Expr, ExprKind, Literal, Place};
use super::super::error::Span;
use super::super::lexer::{Lexer, Token, Words};
use super::super::parse;
use super::super::sample::Sample;
use super::super::{
    CompileOptions, Condition, Facts, NamedRoute, Priority, Reason, Route, RouteTable,
    SourcePattern, Trace, Truth,
};

fn only_token(text: &str) -> Option<Token> {
    let mut lexer = Lexer::new(text, Words::Route);
    let (token, span) = lexer.next();
    (span.of(text) == text).then_some(token)
}

fn name() -> impl Strategy<Value = String> {
    "[a-zA-Z0-9_.!'+*%|$-]{1,6}|[a-z]{1,8}|é[a-z]"
        .prop_filter("a name", |text| only_token(text) == Some(Token::Name))
}

fn dollar() -> impl Strategy<Value = String> {
    r"\$[a-zA-Z.'*]{1,8}(\[[0-9]\])?|\$body\.[a-z]{1,3}"
        .prop_filter("a system name", |text| only_token(text) == Some(Token::SystemName))
}

fn literal() -> impl Strategy<Value = Literal> {
    prop_oneof![
        Just(Literal::Undefined),
        Just(Literal::Null),
        any::<bool>().prop_map(Literal::Bool),
        prop_oneof![-1e9..1e9, -10.0..10.0, Just(1e-7), Just(f64::INFINITY), Just(-f64::INFINITY)]
            .prop_map(Literal::Number),
        (-1000..1000).prop_map(|n: i32| Literal::Number(n.into())),
        r#"[\\'"u0041/*a\n😀]{0,10}|\PC{0,6}"#.prop_map(Literal::Text),
    ]
}

fn binary_op() -> impl Strategy<Value = BinaryOp> {
    prop::sample::select(vec![
        BinaryOp::Multiply,
        BinaryOp::Divide,
        BinaryOp::Modulo,
        BinaryOp::Add,
        BinaryOp::Subtract,
        BinaryOp::Concat,
        BinaryOp::Less,
        BinaryOp::LessOrEqual,
        BinaryOp::Greater,
        BinaryOp::GreaterOrEqual,
        BinaryOp::Equal,
        BinaryOp::NotEqual,
        BinaryOp::Coalesce,
    ])
}

fn expr() -> impl Strategy<Value = Expr> {
    let make = |kind| Expr::new(kind, Span::default());
    let leaf = prop_oneof![
        literal().prop_map(ExprKind::Literal),
        name().prop_map(ExprKind::Property),
        dollar().prop_map(ExprKind::Dollar),
        dollar().prop_map(ExprKind::Braced),
    ]
    .prop_map(make);
    leaf.prop_recursive(6, 40, 4, move |inner| {
        let boxed = inner.clone().prop_map(Box::new);
        prop_oneof![
            boxed.clone().prop_map(ExprKind::Negate).prop_map(make),
            boxed.clone().prop_map(ExprKind::Not).prop_map(make),
            (binary_op(), boxed.clone(), boxed)
                .prop_map(|(op, left, right)| ExprKind::Binary { op, left, right })
                .prop_map(make),
            (name(), prop::collection::vec(inner.clone(), 0..3)).prop_map(move |(name, args)| {
                let name = name.to_ascii_lowercase();
                make(ExprKind::Call { name, place: Place::default(), args })
            }),
            (inner.clone(), inner.clone()).prop_map(|(left, right)| Expr::and(left, right)),
            (inner.clone(), inner).prop_map(|(left, right)| Expr::or(left, right)),
        ]
    })
    // A lower-cased name may have become a keyword or a number.
    .prop_filter("names of functions", functions_are_names)
}

fn functions_are_names(expr: &Expr) -> bool {
    match &expr.kind {
        ExprKind::Call { name, args, .. } => {
            only_token(name) == Some(Token::Name) && args.iter().all(functions_are_names)
        }
        ExprKind::Negate(operand) | ExprKind::Not(operand) => functions_are_names(operand),
        ExprKind::Binary { left, right, .. } => {
            functions_are_names(left) && functions_are_names(right)
        }
        ExprKind::And(operands) | ExprKind::Or(operands) => {
            operands.iter().all(functions_are_names)
        }
        _ => true,
    }
}

/// A condition with types that go together.
fn condition() -> impl Strategy<Value = String> {
    let texts = prop::sample::select(vec![
        "a",
        "b",
        "null_value",
        "$sys",
        "{$sys}",
        "$own",
        "'x'",
        "'2'",
        "''",
        "lower(a)",
        "a || 'x'",
        "(b ?? 'x')",
        "substring(a, 1)",
        "$body.t",
    ]);
    let numbers = prop::sample::select(vec![
        "1",
        "2",
        "-3",
        "as_number(a)",
        "as_number(b)",
        "length(a)",
        "as_number(a) + 1",
        "1 % 0",
        "1 / 0",
        "$body.n",
        "$body.list[1]",
    ]);
    let compare = prop::sample::select(vec!["=", "!=", "<>", "<", "<=", ">", ">="]);
    let flags = prop::sample::select(vec![
        "true",
        "false",
        "undefined",
        "null",
        "$body.f",
        "$body.nowhere",
        "is_defined(a)",
        "is_null(null_value)",
        "starts_with(a, 'x')",
        "is_number($body.n)",
        "is_bool($body.f)",
    ]);
    let leaf = prop_oneof![
        flags.prop_map(str::to_owned),
        (texts.clone(), compare.clone(), texts).prop_map(|(l, op, r)| format!("{l} {op} {r}")),
        (numbers.clone(), compare, numbers).prop_map(|(l, op, r)| format!("{l} {op} {r}")),
    ];
    leaf.prop_recursive(4, 16, 3, |inner| {
        prop_oneof![
            inner.clone().prop_map(|a| format!("NOT ({a})")),
            prop::collection::vec(inner.clone(), 2..4).prop_map(|all| all.join(" AND ")),
            prop::collection::vec(inner, 2..4).prop_map(|all| format!("({})", all.join(" OR "))),
        ]
    })
    // `NOT undefined` and such are refused.
    .prop_filter("types", |text| Condition::compile(text, CompileOptions::MANIFEST).is_ok())
}

fn message() -> impl Strategy<Value = Sample> {
    let value = prop::sample::select(vec![json!("x"), json!("2"), json!("25"), json!("")]);
    let maybe = prop::option::of(prop_oneof![value, Just(Value::Null)]);
    let json_value = prop::sample::select(vec![
        json!(1),
        json!("x"),
        json!(true),
        json!(false),
        json!(null),
        json!([1, 2]),
        json!({"a": 1}),
        json!("2017-03-09T00:00:00Z"),
    ]);
    let body = prop_oneof![
        prop::collection::btree_map("[tnf]|list", json_value, 0..4).prop_map(|map| json!(map)),
        "\\PC{0,8}".prop_map(Value::String),
    ];
    let source = prop::sample::select(vec![
        "/messages",
        "/messages/modules/m",
        "/messages/modules/m/outputs/o",
        "/twinChangeNotifications",
    ]);
    (maybe.clone(), maybe.clone(), maybe, body, source, 0..8).prop_map(
        |(a, b, own, body, source, kind)| {
            let mut properties = json!({"null_value": null});
            for (name, value) in [("A", a), ("b", b), ("$own", own)] {
                if let Some(value) = value {
                    properties[name] = value;
                }
            }
            let kind = if kind == 0 { "text/plain" } else { "application/json" };
            let message = json!({
                "source": source,
                "properties": properties,
                "systemProperties": {
                    "sys": "2", "own": "system", "contentType": kind, "contentEncoding": "utf-8"
                },
                "body": body,
            });
            Sample::from_json(&message).unwrap()
        },
    )
}

fn route_text() -> impl Strategy<Value = String> {
    let source = prop::sample::select(vec![
        "/*",
        "/messages/*",
        "/",
        "/MESSAGES",
        "/messages/modules/m/*",
        "/messages/modules/m/outputs/o",
        "/twinChangeNotifications",
        "/messages/modules/other/outputs/*",
    ]);
    let sink = prop::sample::select(vec![
        "$upstream",
        "BrokeredEndpoint('/modules/m/inputs/i')",
        "BrokeredEndpoint(\"/modules/n/inputs/i\")",
        "brokeredEndpoint('a/it\"s/b/*/')",
    ]);
    let text =
        (source, prop::option::of(condition()), sink).prop_map(|(source, condition, sink)| {
            match condition {
                Some(condition) => format!("FROM {source} WHERE {condition} INTO {sink}"),
                None => format!("select * from {source} into {sink}"),
            }
        });
    // The star of a source and the end of an address may make a comment.
    text.prop_filter("no comment", |text| Route::parse(text).is_ok())
}

/// The text with the other case for every word whose case has no meaning.
fn other_case(text: &str) -> String {
    let mut lexer = Lexer::new(text, Words::Condition);
    let mut out = String::new();
    loop {
        let (token, span) = lexer.next();
        let word = span.of(text);
        match token {
            Token::End => return out,
            Token::And | Token::Or | Token::Not | Token::Name => {
                out.extend(word.chars().map(|c| {
                    if c.is_ascii_lowercase() {
                        c.to_ascii_uppercase()
                    } else {
                        c.to_ascii_lowercase()
                    }
                }));
            }
            _ => out.push_str(word),
        }
        out.push(' ');
    }
}

/// Words of the language in no order.
fn soup() -> impl Strategy<Value = String> {
    let word = prop_oneof![
        prop::sample::select(vec![
            "FROM",
            "/*",
            "/messages",
            "WHERE",
            "INTO",
            "$upstream",
            "SELECT",
            "*",
            "(",
            ")",
            ",",
            "AND",
            "OR",
            "NOT",
            "-",
            "+",
            "||",
            "=",
            "<",
            "??",
            "null",
            "undefined",
            "true",
            "1",
            "0x",
            "e5",
            "'a'",
            "'",
            "\"",
            "$body.a",
            "$body.a[0]",
            "$b",
            "{",
            "}",
            "/",
            "*/",
            "a",
            "length(",
            "concat(",
            "substring(a, ",
            "is_null(",
            "twin_change_includes(",
            "@",
            ";",
        ])
        .prop_map(str::to_owned),
        "\\PC{0,4}",
    ];
    prop::collection::vec(word, 0..24).prop_map(|words| words.join(" "))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..Default::default() })]

    #[test]
    fn parsing_what_was_printed_gives_the_same_condition(expr in expr()) {
        let printed = expr.to_string();
        let parsed = parse::condition(&printed);
        prop_assert_eq!(parsed.as_ref(), Ok(&expr), "{}", printed);
    }

    #[test]
    fn parsing_what_was_printed_gives_the_same_route(text in route_text()) {
        let route = Route::parse(&text).unwrap();
        let printed = route.to_string();
        let again = Route::parse(&printed);
        prop_assert_eq!(again.as_ref(), Ok(&route), "{}", printed);
        prop_assert_eq!(again.unwrap().to_string(), printed);
    }

    #[test]
    fn no_text_makes_the_parser_panic(text in prop_oneof![soup(), "\\PC*"], message in message()) {
        for error in [Route::parse(&text).err(), Condition::compile(&text, CompileOptions::MANIFEST).err()]
            .into_iter()
            .flatten()
        {
            prop_assert!(error.caret().contains('^'));
            prop_assert!(error.column() as usize <= text.chars().count() + 1);
        }
        if let Ok(route) = Route::parse(&text) {
            route.warnings();
        }
        let options = CompileOptions { twin_change_source: true, ..CompileOptions::MANIFEST };
        if let Ok(condition) = Condition::compile(&text, options) {
            prop_assert_eq!(condition.evaluate(&message), condition.explain(&message).result);
        }
    }

    #[test]
    fn any_body_can_be_asked(body in prop::collection::vec(any::<u8>(), 0..64), kind in 0..4_usize) {
        struct Raw(Vec<u8>, &'static str);
        impl Facts for Raw {
            fn source(&self) -> super::super::Source<'_> {
                super::super::Source::Device
            }
            fn property(&self, _name: &str) -> super::super::Lookup<'_> {
                super::super::Lookup::Null
            }
            fn system_property(&self, name: &str) -> super::super::Lookup<'_> {
                let json = name == "contentType";
                let text = if json { "application/json" } else { self.1 };
                super::super::Lookup::Text(text.into())
            }
            fn body(&self) -> &[u8] {
                &self.0
            }
        }
        let message = Raw(body, ["utf-8", "utf-16", "utf-32", "other"][kind]);
        let condition = "{$body.a} = 1 OR $body.b[0].c > 'x'";
        let condition = Condition::compile(condition, CompileOptions::MANIFEST).unwrap();
        condition.explain(&message);
    }

    #[test]
    fn case_of_keywords_functions_and_properties_has_no_meaning(
        text in condition(),
        message in message(),
    ) {
        let truth = |text: &str| {
            Condition::compile(text, CompileOptions::MANIFEST).unwrap().evaluate(&message)
        };
        let other = other_case(&text);
        prop_assert_eq!(truth(&text), truth(&other), "{} / {}", text, other);
    }

    #[test]
    fn a_printed_condition_has_the_same_result(text in condition(), message in message()) {
        let printed = parse::condition(&text).unwrap().to_string();
        let truth = |text: &str| {
            Condition::compile(text, CompileOptions::MANIFEST).unwrap().evaluate(&message)
        };
        prop_assert_eq!(truth(&text), truth(&printed), "{}", printed);
    }

    #[test]
    fn the_explanation_is_the_decision(
        routes in prop::collection::vec((route_text(), 0..10_u32), 0..6),
        messages in prop::collection::vec(message(), 1..4),
    ) {
        let routes = routes.iter().enumerate().map(|(i, (text, priority))| NamedRoute {
            name: format!("r{i}"),
            route: Route::parse(text).unwrap(),
            priority: Priority::new(*priority).unwrap(),
            time_to_live: None,
        });
        let table = RouteTable::build(routes, CompileOptions::MANIFEST).unwrap();
        let mut trace = Trace::default();
        for message in &messages {
            let selection = table.select_traced(message, &mut trace);
            prop_assert_eq!(&selection, &table.select(message));
            let verdicts = table.explain(&trace).unwrap();
            for (named, verdict) in table.routes().zip(&verdicts) {
                let route = &named.route;
                let caught = SourcePattern::new(route.source().path()).matches(message.source());
                let condition =
                    Condition::compile(route.condition_text(), CompileOptions::MANIFEST).unwrap();
                let truth = if caught { condition.evaluate(message) } else { Truth::False };
                prop_assert_eq!(verdict.matched, truth);
                // The deciding part alone has the result of the whole.
                if let Reason::Condition { expression, .. } = &verdict.reason {
                    let part = Condition::compile(expression, CompileOptions::MANIFEST).unwrap();
                    prop_assert_eq!(part.evaluate(message), truth, "{}", verdict.text);
                }
                let sink = table.sinks().iter().position(|sink| sink == route.sink()).unwrap();
                let target = selection.iter().find(|target| usize::from(target.sink.0) == sink);
                if truth == Truth::True {
                    prop_assert!(target.unwrap().priority <= named.priority);
                }
            }
            for target in &selection {
                let decider = &verdicts[usize::from(target.route)];
                prop_assert_eq!(decider.matched, Truth::True);
            }
            let mut sinks: Vec<_> = selection.iter().map(|target| target.sink).collect();
            sinks.sort();
            sinks.dedup();
            prop_assert_eq!(sinks.len(), selection.len());
        }
    }
}
