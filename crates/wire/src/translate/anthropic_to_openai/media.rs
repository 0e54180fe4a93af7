//! Images, documents and search results as parts of a user message.
//!
//! A document that is text goes over as text under its title. What is only named by an id, or that
//! the vendor would fetch, is not at hand here and refuses the target.

use super::blocks::{Block, File, ImageUrl, Part, blocks};
use super::{CACHE, Way};
use crate::translate::Refusal;
use crate::translate::read::{Node, Object, loss};

/// What Chat takes of a block that is neither text nor a tool's result.
pub(super) fn parts(block: Block<'_>, way: &mut Way) -> Result<Vec<Part>, Refusal> {
    let kind = block.kind.clone();
    let node = block.node.clone();
    let (mut members, _) = block.split()?;
    let parts = match kind.as_str() {
        "image" => vec![image(&members.need("source")?, way)?],
        "document" => document(&mut members, way)?,
        "search_result" => vec![found(&mut members, way)?],
        _ => return Err(node.refuse("the target has no block of this kind")),
    };
    members.lose("cache_control", CACHE, &mut way.losses);
    members.lose_rest(&mut way.losses);
    Ok(parts)
}

fn image(source: &Node<'_>, way: &mut Way) -> Result<Part, Refusal> {
    let mut from = source.object()?;
    let kind = from.need("type")?.string()?;
    let url = match kind.as_str() {
        "base64" => data_url(&mut from, |kind| kind.starts_with("image/"))?,
        "url" => from.need("url")?.string()?,
        "file" => return Err(source.refuse(FILE)),
        _ => return Err(source.refuse("this source of an image is not known")),
    };
    from.lose_rest(&mut way.losses);
    let image_url = ImageUrl { url };
    Ok(Part::ImageUrl { image_url })
}

fn document(members: &mut Object<'_>, way: &mut Way) -> Result<Vec<Part>, Refusal> {
    let title = members.string("title")?.filter(|title| !title.is_empty());
    let context = members.string("context")?.filter(|text| !text.is_empty());
    citations(members, way)?;
    let source = members.need("source")?;
    let mut from = source.object()?;
    let kind = from.need("type")?.string()?;
    let mut parts = Vec::new();
    match kind.as_str() {
        "base64" => {
            let file_data = data_url(&mut from, |kind| kind == "application/pdf")?;
            let filename = title.unwrap_or_else(|| "document.pdf".to_owned());
            parts.extend(context.map(|text| Part::Text { text }));
            parts.push(Part::File {
                file: File {
                    filename,
                    file_data,
                },
            });
        }
        "text" => {
            from.take("media_type");
            let text = under(title, context, from.need("data")?.string()?);
            parts.push(Part::Text { text });
        }
        "content" => {
            let head = under(title, context, String::new());
            parts.push(Part::Text { text: head });
            for block in blocks(&from.need("content")?)? {
                match block.kind.as_str() {
                    "text" => parts.push(Part::Text {
                        text: block.text(way)?,
                    }),
                    "image" => parts.extend(self::parts(block, way)?),
                    _ => return Err(block.node.refuse("a document holds text and images")),
                }
            }
            parts.retain(|part| part.text() != Some(""));
        }
        "url" => return Err(source.refuse("the target fetches no documents")),
        "file" => return Err(source.refuse(FILE)),
        _ => return Err(source.refuse("this source of a document is not known")),
    }
    from.lose_rest(&mut way.losses);
    Ok(parts)
}

fn found(members: &mut Object<'_>, way: &mut Way) -> Result<Part, Refusal> {
    let title = members.string("title")?;
    let source = members.string("source")?;
    citations(members, way)?;
    let mut texts = Vec::new();
    for block in blocks(&members.need("content")?)? {
        if block.kind != "text" {
            return Err(block.node.refuse("a search result is text alone"));
        }
        texts.push(block.text(way)?);
    }
    let text = under(title, source, texts.join("\n\n"));
    Ok(Part::Text { text })
}

const FILE: &str = "a file that is named by its id lives at its vendor";

/// A text under its head lines, which stand apart by a blank line.
fn under(title: Option<String>, second: Option<String>, text: String) -> String {
    let head: Vec<String> = title.into_iter().chain(second).collect();
    let mut whole = vec![head.join("\n"), text];
    whole.retain(|text| !text.is_empty());
    whole.join("\n\n")
}

/// Asking for citations is lost; saying that none are wanted is not.
fn citations(members: &mut Object<'_>, way: &mut Way) -> Result<(), Refusal> {
    if let Some(node) = members.take("citations")
        && node.object()?.flag("enabled")? == Some(true)
    {
        way.losses
            .push(loss(&node.path, "the target cites no sources"));
    }
    Ok(())
}

fn data_url(from: &mut Object<'_>, takes: impl Fn(&str) -> bool) -> Result<String, Refusal> {
    let node = from.need("media_type")?;
    let media_type = node.string()?;
    if !takes(&media_type) {
        return Err(node.refuse("the target takes no such file"));
    }
    let data = from.need("data")?.string()?;
    Ok(format!("data:{media_type};base64,{data}"))
}
