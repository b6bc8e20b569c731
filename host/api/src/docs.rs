//! Documentation that the binary carries: Swagger UI, the OpenAPI document, a page for each error.
//!
//! Open to everyone and free of the network: the browser loads nothing from elsewhere, and the content
//! security policy says so.

use crate::Api;
use crate::extract::Path;
use crate::problem::Problem;
use axum::Router;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use rust_embed::RustEmbed;
use std::sync::{Arc, LazyLock};
use utoipa_swagger_ui::Config;
use weir_core::error_code::ErrorCode;

/// One page for each error code.
#[derive(RustEmbed)]
#[folder = "../../docs/errors/"]
pub(crate) struct ErrorPages;

/// Swagger UI sets styles on elements, so styles cannot be held to files; scripts can.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; \
    img-src 'self' data:; font-src 'self'; connect-src 'self'; base-uri 'none'; \
    form-action 'none'; frame-ancestors 'none'";

/// Pages that are no operations of the API.
pub(crate) fn pages() -> Router<Api> {
    Router::new()
        .route("/docs", get(|| async { Redirect::permanent("/docs/") }))
        .route("/docs/", get(|| async { swagger_file("") }))
        .route("/docs/errors", get(|| async { error_index() }))
        .route("/docs/errors/", get(|| async { Redirect::permanent("/docs/errors") }))
        .route("/docs/{*file}", get(|Path(file): Path<String>| async move { swagger_file(&file) }))
        .method_not_allowed_fallback(|| async {
            Problem::new(ErrorCode::MethodNotAllowed, "the path has the methods GET, HEAD")
                .header(header::ALLOW, "GET, HEAD")
        })
}

fn swagger_file(file: &str) -> Response {
    static CONFIG: LazyLock<Arc<Config<'static>>> = LazyLock::new(|| {
        let config = Config::from("/openapi.json").display_request_duration(true).filter(true);
        Arc::new(config.try_it_out_enabled(true).doc_expansion("list").validator_url("none"))
    });
    match utoipa_swagger_ui::serve(file, Arc::clone(&CONFIG)) {
        Ok(Some(found)) => {
            let kind = [(header::CONTENT_TYPE, found.content_type)];
            guarded((kind, found.bytes.into_owned()).into_response())
        }
        Ok(None) => Problem::new(ErrorCode::NotFound, "there is no such page").into_response(),
        Err(_) => Problem::fault(&std::io::Error::other("a page of Swagger UI")).into_response(),
    }
}

fn guarded(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

/// The OpenAPI document.
///
/// Describes every operation of this hub, in OpenAPI 3.1.
#[utoipa::path(get, path = "/openapi.json", operation_id = "getOpenApi", tag = "documentation",
    security(()), responses((status = 200, description = "The document",
        body = Object, content_type = "application/json",
        example = json!({"openapi": "3.1.0", "info": {"title": "Weir", "version": "1"}, "paths": {}}))))]
pub(crate) async fn openapi() -> Response {
    let kind = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-cache")];
    (kind, crate::openapi::document()).into_response()
}

/// Explains an error code.
///
/// The `type` of every problem leads here.
#[utoipa::path(get, path = "/docs/errors/{code}", operation_id = "getErrorPage",
    tag = "documentation", security(()),
    params(("code" = String, Path, description = "Stable name of the error", example = "route-syntax")),
    responses((status = 200, description = "A page for people", body = String,
        content_type = "text/html", example = json!("<!doctype html><title>route-syntax</title>"))),
    extensions(("x-errors" = json!(["not-found", "invalid-name"]))))]
pub(crate) async fn error_page(Path(code): Path<String>) -> Result<Response, Problem> {
    let known = ErrorCode::ALL.iter().find(|known| known.name() == code);
    let page = known.and_then(|code| ErrorPages::get(&format!("{code}.md")));
    let page = page.ok_or_else(|| Problem::new(ErrorCode::NotFound, "there is no such error"))?;
    let text = String::from_utf8_lossy(&page.data);
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    Ok(guarded((StatusCode::OK, headers, html(&code, &text)).into_response()))
}

/// All error codes, each with the way to its page.
fn error_index() -> Response {
    let rows = ErrorCode::ALL.iter().map(|code| {
        let (name, title, status) = (code.name(), escaped(code.title()), code.status());
        format!(
            "<li><a href=\"/docs/errors/{name}\"><code>{name}</code></a> ({status}): {title}</li>"
        )
    });
    let text = format!(
        "{}<h1>Errors</h1>\n<p>The <code>type</code> of every problem leads to one of these.</p>\n\
         <ul>{}</ul>\n</body></html>\n",
        head("Errors"),
        rows.collect::<String>()
    );
    guarded(([(header::CONTENT_TYPE, "text/html; charset=utf-8")], text).into_response())
}

fn head(title: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title>\
         <style>body{{font:16px/1.5 system-ui,sans-serif;max-width:44em;margin:3em auto;\
         padding:0 1em}}code,pre{{background:#8882;padding:.1em .3em}}</style></head><body>\n"
    )
}

/// The few forms of Markdown that the pages use: headings, lists, code blocks, `code`.
fn html(title: &str, markdown: &str) -> String {
    let mut out = head(title);
    for block in markdown.split("\n\n").map(str::trim).filter(|block| !block.is_empty()) {
        let block = escaped(block);
        if let Some(text) = block.strip_prefix("## ") {
            out.push_str(&format!("<h2>{}</h2>\n", spans(text)));
        } else if let Some(text) = block.strip_prefix("# ") {
            out.push_str(&format!("<h1>{}</h1>\n", spans(text)));
        } else if let Some(text) = block.strip_prefix("```") {
            let text = text.trim_end_matches("```").split_once('\n').map_or("", |(_, rest)| rest);
            out.push_str(&format!("<pre>{text}</pre>\n"));
        } else if block.starts_with("- ") {
            let items = block.trim_start_matches("- ").split("\n- ");
            let items = items.map(|item| format!("<li>{}</li>", spans(item))).collect::<String>();
            out.push_str(&format!("<ul>{items}</ul>\n"));
        } else {
            out.push_str(&format!("<p>{}</p>\n", spans(&block)));
        }
    }
    out.push_str("</body></html>\n");
    out
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// Every second piece between backticks is code.
fn spans(text: &str) -> String {
    let pieces = text.split('`').enumerate();
    pieces
        .map(|(at, piece)| match at % 2 {
            1 => format!("<code>{piece}</code>"),
            _ => piece.to_owned(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_code_has_a_page_and_every_page_a_code() {
        for code in ErrorCode::ALL {
            let page = ErrorPages::get(&format!("{code}.md"));
            let page = page.unwrap_or_else(|| panic!("docs/errors/{code}.md is missing"));
            let text = String::from_utf8(page.data.into_owned()).unwrap();
            assert!(text.starts_with(&format!("# {}", code.title())), "{code}: the title");
            for part in ["## Meaning", "## Likely causes", "## What to do"] {
                assert!(text.contains(part), "{code}: {part}");
            }
        }
        for name in ErrorPages::iter().filter(|name| &**name != "README.md") {
            let code = name.trim_end_matches(".md");
            assert!(ErrorCode::ALL.iter().any(|known| known.name() == code), "{name}");
        }
    }

    #[test]
    fn a_page_becomes_html_and_nothing_in_it_becomes_markup() {
        let page = html("x", "# A `b` <c>\n\n- one\n- two\n\n```text\n<d>\n```\n\nlast");
        assert!(page.contains("<h1>A <code>b</code> &lt;c&gt;</h1>"), "{page}");
        assert!(page.contains("<ul><li>one</li><li>two</li></ul>"), "{page}");
        assert!(page.contains("<pre>&lt;d&gt;\n</pre>"), "{page}");
    }
}
