//! Pages of lists: `?limit=` and `?cursor=` in, `{items, next}` out.
//!
//! A cursor is the key of the last item in disguise: it is opaque to callers and means the same after
//! a restart.

use crate::extract::Query;
use crate::json::Json;
use crate::problem::Problem;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use weir_core::limits;

/// Part of a list.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Page<T> {
    /// In order of their names or numbers.
    pub(crate) items: Vec<T>,
    /// Cursor of the next page; null at the end.
    pub(crate) next: Option<String>,
}

/// Which part of a list.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct PageQuery {
    /// Most items of the page: 1 to 1000 (lists of messages: 100); 100 when left out.
    #[param(minimum = 1, maximum = 1000, example = 100)]
    pub(crate) limit: Option<u32>,
    /// `next` of the page before.
    pub(crate) cursor: Option<String>,
}

/// A checked request for a page.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// Most items.
    pub(crate) limit: usize,
    /// Key of the item before the page.
    pub(crate) after: Option<String>,
}

const DEFAULT: usize = 100;

impl PageQuery {
    /// # Errors
    /// A limit out of range or a cursor that is none.
    pub(crate) fn wanted(self) -> Result<Wanted, Problem> {
        self.wanted_of(limits::PAGE_ITEMS)
    }

    /// As [`PageQuery::wanted`], with another highest limit.
    pub(crate) fn wanted_of(self, most: usize) -> Result<Wanted, Problem> {
        let limit = match self.limit {
            None => DEFAULT.min(most),
            Some(limit) => {
                usize::try_from(limit).ok().filter(|limit| (1..=most).contains(limit)).ok_or_else(
                    || Problem::invalid(format!("limit must be 1 to {most}")).parameter("limit"),
                )?
            }
        };
        let after = self.cursor.map(|cursor| open(&cursor)).transpose()?;
        Ok(Wanted { limit, after })
    }
}

impl Wanted {
    /// The cursor as a key of another kind than text.
    ///
    /// # Errors
    /// When the cursor is of another list.
    pub(crate) fn after_as<T: std::str::FromStr>(&self) -> Result<Option<T>, Problem> {
        self.after.as_deref().map(|after| after.parse().map_err(|_| no_cursor())).transpose()
    }

    /// One more than wanted: whether there is a next page.
    pub(crate) fn and_one(&self) -> usize {
        self.limit + 1
    }

    /// The page, out of up to one item more than wanted.
    pub(crate) fn page<T, V>(
        &self,
        mut found: Vec<T>,
        key: impl Fn(&T) -> String,
        view: impl FnMut(T) -> V,
    ) -> Page<V> {
        let more = found.len() > self.limit;
        found.truncate(self.limit);
        let next = found.last().filter(|_| more).map(|last| URL_SAFE_NO_PAD.encode(key(last)));
        Page { items: found.into_iter().map(view).collect(), next }
    }
}

fn open(cursor: &str) -> Result<String, Problem> {
    let bytes = URL_SAFE_NO_PAD.decode(cursor).map_err(|_| no_cursor())?;
    String::from_utf8(bytes).map_err(|_| no_cursor())
}

fn no_cursor() -> Problem {
    Problem::invalid("cursor is not one of this list").parameter("cursor")
}

impl<T: Serialize> IntoResponse for Page<T> {
    fn into_response(self) -> Response {
        let link = self.next.as_ref().map(|next| format!("<?cursor={next}>; rel=\"next\""));
        let mut response = Json(self).into_response();
        if let Some(link) = link.and_then(|link| HeaderValue::from_str(&link).ok()) {
            response.headers_mut().insert(header::LINK, link);
        }
        response
    }
}

/// The request for a page, as an extractor.
pub(crate) type PageOf = Query<PageQuery>;

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(limit: Option<u32>, cursor: Option<&str>) -> Result<Wanted, Problem> {
        PageQuery { limit, cursor: cursor.map(str::to_owned) }.wanted()
    }

    #[test]
    fn walking_the_cursors_gives_every_item_once() {
        let all: Vec<u32> = (0..25).collect();
        let (mut seen, mut cursor) = (Vec::new(), None::<String>);
        loop {
            let wanted = wanted(Some(10), cursor.as_deref()).unwrap();
            let after = wanted.after_as::<u32>().unwrap();
            let found: Vec<u32> = all
                .iter()
                .copied()
                .filter(|item| after.is_none_or(|after| *item > after))
                .take(wanted.and_one())
                .collect();
            let page = wanted.page(found, u32::to_string, |item| item);
            seen.extend(page.items);
            cursor = page.next;
            if cursor.is_none() {
                break;
            }
        }
        assert_eq!(seen, all);
    }

    #[test]
    fn a_limit_out_of_range_or_a_made_up_cursor_is_refused() {
        for limit in [0, 1001, u32::MAX] {
            assert!(wanted(Some(limit), None).is_err());
        }
        assert!(wanted(Some(1000), None).is_ok());
        assert!(wanted(None, Some("not base64!")).is_err());
        assert!(wanted(None, Some("_w")).is_err(), "bytes that are no text");
        let other = wanted(None, Some(&URL_SAFE_NO_PAD.encode("pump"))).unwrap();
        assert!(other.after_as::<u64>().is_err());
    }
}
