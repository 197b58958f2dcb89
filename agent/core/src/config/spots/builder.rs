//! Parser events → places, with bounds: what is too deep or too much ends the reading.

use std::borrow::Cow;
use std::collections::HashMap;

use saphyr_parser::{Event, Marker, Parser, ScanError, Span};

use super::{NOT_YAML, Place, Position, Refusal, Spot, Step};

/// Nesting that no cluster file needs; the deepest of the schema is below 10.
const DEEPEST: usize = 32;

/// Values after expanding aliases. 1,000 nodes have about 60,000; an alias bomb has billions.
const MOST_VALUES: usize = 500_000;

/// The places of the one document in `text`, the root first; none if the text is empty.
pub(super) fn places(text: &str) -> Result<Vec<Place>, Refusal> {
    let mut builder = Builder::default();
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| not_yaml(&error))?;
        builder.take(event, span)?;
    }
    Ok(builder.places)
}

fn not_yaml(error: &ScanError) -> Refusal {
    let tab = error.info().contains("tab");
    Refusal {
        position: at(*error.marker(), 1),
        reason: format!("this is not YAML: {}", error.info()),
        help: Some(if tab { "indent with blanks, not with tabs" } else { NOT_YAML }),
    }
}

fn at(marker: Marker, length: usize) -> Position {
    Position { line: marker.line().max(1), column: marker.col() + 1, length }
}

/// The stretch of a span within its first line.
fn stretch(span: Span) -> Position {
    let one_line = span.start.line() == span.end.line();
    at(span.start, if one_line { span.end.index().saturating_sub(span.start.index()) } else { 1 })
}

/// A list or a map that is still open.
#[derive(Debug)]
struct Open {
    spot: Spot,
    holds: Holds,
}

#[derive(Debug)]
enum Holds {
    Items,
    /// A map, and the key whose value comes next.
    Entries(Option<(String, Position)>),
}

#[derive(Debug, Default)]
struct Builder {
    places: Vec<Place>,
    open: Vec<Open>,
    anchors: HashMap<usize, Spot>,
    documents: usize,
}

impl Builder {
    fn take(&mut self, event: Event<'_>, span: Span) -> Result<(), Refusal> {
        let position = stretch(span);
        match event {
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => Ok(()),
            Event::DocumentStart(_) => self.document(position),
            Event::Alias(anchor) => self.alias(anchor, position),
            Event::Scalar(_, _, _, Some(_))
            | Event::SequenceStart(_, Some(_))
            | Event::MappingStart(_, Some(_)) => Err(refuse(
                position,
                "a YAML tag ('!…') means nothing in a cluster file",
                "remove the tag",
            )),
            Event::Scalar(text, _, anchor, None) => self.scalar(text, anchor, position),
            Event::SequenceStart(anchor, None) => self.begin(Holds::Items, anchor, position),
            Event::MappingStart(anchor, None) => self.begin(Holds::Entries(None), anchor, position),
            Event::SequenceEnd | Event::MappingEnd => {
                self.open.pop();
                Ok(())
            }
        }
    }

    fn document(&mut self, position: Position) -> Result<(), Refusal> {
        self.documents += 1;
        if self.documents == 1 {
            return Ok(());
        }
        let reason = "a second YAML document begins here; a cluster file is one document";
        Err(refuse(position, reason, "remove the '---', or put the rest into a file of its own"))
    }

    fn scalar(
        &mut self,
        text: Cow<'_, str>,
        anchor: usize,
        position: Position,
    ) -> Result<(), Refusal> {
        if let Some(Open { holds: Holds::Entries(key @ None), .. }) = self.open.last_mut() {
            *key = Some((text.into_owned(), position));
            return Ok(());
        }
        let spot = self.add(position, Some(text.into_owned()))?;
        self.anchors.insert(anchor, spot);
        Ok(())
    }

    fn begin(&mut self, holds: Holds, anchor: usize, position: Position) -> Result<(), Refusal> {
        self.no_key_awaited(position)?;
        let spot = self.add(Position { length: 1, ..position }, None)?;
        self.anchors.insert(anchor, spot);
        self.go_inside(spot, holds, position)
    }

    /// What is added next goes into this value.
    fn go_inside(&mut self, spot: Spot, holds: Holds, position: Position) -> Result<(), Refusal> {
        if self.open.len() >= DEEPEST {
            let reason =
                format!("the file is nested more than {DEEPEST} levels deep, aliases expanded");
            return Err(Refusal { position, reason, help: Some("close the brackets before this") });
        }
        self.open.push(Open { spot, holds });
        Ok(())
    }

    fn no_key_awaited(&self, position: Position) -> Result<(), Refusal> {
        match self.open.last() {
            Some(Open { holds: Holds::Entries(None), .. }) => {
                Err(refuse(position, "a key is a plain text here", "write the key as a word"))
            }
            _ => Ok(()),
        }
    }

    /// Adds a value below what is open.
    fn add(&mut self, position: Position, scalar: Option<String>) -> Result<Spot, Refusal> {
        let Some(Open { spot: parent, holds }) = self.open.last_mut() else {
            return self.push(Place::new(Spot::ROOT, Step::Root, position, scalar));
        };
        let parent = *parent;
        let step = match holds {
            Holds::Entries(key) => {
                key.take().map_or(Step::Root, |(key, position)| Step::Key(key, position))
            }
            Holds::Items => Step::Item(self.places[parent.0 as usize].children.len()),
        };
        let spot = self.push(Place::new(parent, step, position, scalar))?;
        self.places[parent.0 as usize].children.push(spot);
        Ok(spot)
    }

    fn push(&mut self, place: Place) -> Result<Spot, Refusal> {
        if self.places.len() >= MOST_VALUES {
            let reason = format!("the file has more than {MOST_VALUES} values, aliases expanded");
            return Err(Refusal {
                position: place.position,
                reason,
                help: Some("use fewer aliases"),
            });
        }
        self.places.push(place);
        Ok(Spot(u32::try_from(self.places.len() - 1).unwrap_or(u32::MAX)))
    }

    /// An alias stands for a copy of what has the anchor; the copy keeps the positions of the text.
    fn alias(&mut self, anchor: usize, position: Position) -> Result<(), Refusal> {
        self.no_key_awaited(position)?;
        let target = self.anchors.get(&anchor).copied();
        let inside = self.open.iter().any(|open| Some(open.spot) == target);
        let Some(target) = target.filter(|_| !inside) else {
            return Err(refuse(
                position,
                "this alias stands for something that is not complete here",
                "write the value out",
            ));
        };
        self.copy(target)
    }

    fn copy(&mut self, target: Spot) -> Result<(), Refusal> {
        let original = self.places[target.0 as usize].clone();
        let copy = self.add(original.position, original.scalar)?;
        self.go_inside(copy, Holds::Items, original.position)?;
        for child in original.children {
            let step = self.places[child.0 as usize].step.clone();
            if let (Step::Key(key, position), Some(open)) = (step, self.open.last_mut()) {
                open.holds = Holds::Entries(Some((key, position)));
            }
            self.copy(child)?;
        }
        self.open.pop();
        Ok(())
    }
}

fn refuse(position: Position, reason: &str, help: &'static str) -> Refusal {
    Refusal { position, reason: reason.to_owned(), help: Some(help) }
}
