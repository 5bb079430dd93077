//! The document for people: one page that holds all it needs, style, script and document, and asks
//! for nothing from anywhere else.

use sha2::{Digest, Sha256};

use super::app::Documents;
use super::openapi;

const TEMPLATE: &str = include_str!("docs.html");

/// The documents that the service shows: the page works under a `Content-Security-Policy` that
/// allows its own style and script by their hashes, this service, and nothing else.
#[must_use]
pub fn documents() -> Documents {
    let openapi = openapi::document();
    // `<` would let a text of the document end the script element.
    let page = TEMPLATE.replace("{{document}}", &openapi.to_string().replace('<', "\\u003c"));
    let hash = |element: &str| {
        let (_, rest) = page.split_once(&format!("<{element}>")).expect("the page has it");
        let (text, _) = rest.split_once(&format!("</{element}>")).expect("the page has it");
        base64(&Sha256::digest(text))
    };
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{}'; script-src 'sha256-{}'; connect-src 'self'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        hash("style"),
        hash("script")
    );
    Documents { openapi, page, policy }
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let bits = chunk.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte))
            << (8 * (3 - chunk.len()));
        for digit in 0..4 {
            let index = bits >> (18 - 6 * digit) & 63;
            text.push(if digit > chunk.len() { '=' } else { DIGITS[index as usize] as char });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::base64;

    #[test]
    fn base64_is_that_of_rfc_4648() {
        for (plain, encoded) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")]
        {
            assert_eq!(base64(plain.as_bytes()), encoded);
        }
    }
}
