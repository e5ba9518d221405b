//! The records of a journal, joined.

use crate::journal::columns::TradeColumns;
use crate::journal::record::{Kind, Stop, decode};

/// Reasons for missing ids, by their code.
pub const REASONS: [&str; 3] = ["absent", "sentinel", "invalid"];

/// Consecutive ids that are confirmed missing, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Missing {
    pub first: i64,
    pub last: i64,
    pub reason: &'static str,
}

/// What the records hold.
#[derive(Clone, Debug, Default)]
pub struct Content {
    /// The applied trades, in the order of the records.
    pub trades: TradeColumns<'static>,
    pub late: TradeColumns<'static>,
    pub missing: Vec<Missing>,
    /// Revisions as JSON.
    pub revisions: Vec<String>,
    pub is_closed: bool,
    pub records: usize,
    /// Length of the intact records.
    pub length: usize,
    /// Why the bytes after them were not read, if there are any.
    pub stop: Option<Stop>,
}

/// The payload of a record of missing ids; `None` for an unknown reason.
pub fn missing_payload<'a>(spans: impl Iterator<Item = (i64, i64, &'a str)>) -> Option<Vec<u8>> {
    let (mut firsts, mut lasts, mut codes) = (Vec::new(), Vec::new(), Vec::new());
    for (first, last, reason) in spans {
        firsts.extend_from_slice(&first.to_le_bytes());
        lasts.extend_from_slice(&last.to_le_bytes());
        codes.push(REASONS.iter().position(|name| *name == reason)? as u8);
    }
    Some([firsts, lasts, codes].concat())
}

/// Spans of a payload; `None` if one of them is impossible.
fn missing_of(payload: &[u8], rows: usize) -> Option<Vec<Missing>> {
    let (firsts, rest) = payload.split_at_checked(8 * rows)?;
    let (lasts, codes) = rest.split_at_checked(8 * rows)?;
    let ids = firsts.as_chunks().0.iter().zip(lasts.as_chunks().0).zip(codes);
    let spans = ids.map(|((first, last), code)| {
        let (first, last) = (i64::from_le_bytes(*first), i64::from_le_bytes(*last));
        let reason = REASONS.get(usize::from(*code))?;
        (first <= last).then_some(Missing { first, last, reason })
    });
    spans.collect()
}

impl Content {
    /// Reads records up to the first one that is incomplete or damaged.
    pub fn read(bytes: &[u8]) -> Self {
        let mut content = Self::default();
        let mut rest = bytes;
        while !rest.is_empty() && content.stop.is_none() {
            match content.take(rest) {
                Ok(after) => rest = after,
                Err(stop) => content.stop = Some(stop),
            }
        }
        content.length = bytes.len() - rest.len();
        content
    }

    fn take<'a>(&mut self, bytes: &'a [u8]) -> Result<&'a [u8], Stop> {
        let (record, rest) = decode(bytes)?;
        match record.kind {
            Kind::Trades | Kind::Late => {
                let columns = TradeColumns::of(record.payload, record.rows);
                let columns = columns.ok_or(Stop::Damaged("it holds an impossible trade"))?;
                (if record.kind == Kind::Late { &mut self.late } else { &mut self.trades }).extend(&columns);
            }
            Kind::Missing => {
                let spans = missing_of(record.payload, record.rows);
                self.missing.append(&mut spans.ok_or(Stop::Damaged("it holds impossible ids"))?);
            }
            Kind::Revision => {
                let text = std::str::from_utf8(record.payload);
                self.revisions.push(text.map_err(|_| Stop::Damaged("it holds no text"))?.to_owned());
            }
            Kind::DayClosed => self.is_closed = true,
        }
        self.records += 1;
        Ok(rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::record::encode;

    #[test]
    fn records_are_joined_up_to_the_first_that_cannot_be_read() {
        let spans = [(4, 9, "invalid"), (-1, -1, "absent")];
        let missing = encode(Kind::Missing, 2, &missing_payload(spans.into_iter()).unwrap()).unwrap();
        let revision = encode(Kind::Revision, 2, b"{}").unwrap();
        let closed = encode(Kind::DayClosed, 0, &[]).unwrap();
        let bytes = [missing.clone(), revision, closed.clone(), vec![1]].concat();
        let content = Content::read(&bytes);
        assert_eq!((content.records, content.length), (3, bytes.len() - 1));
        assert_eq!(content.stop, Some(Stop::Incomplete));
        assert_eq!(content.missing[0], Missing { first: 4, last: 9, reason: "invalid" });
        assert_eq!(content.missing.len(), 2);
        assert_eq!((content.revisions.as_slice(), content.is_closed), (["{}".to_owned()].as_slice(), true));
        let content = Content::read(&[closed, vec![9; 16], missing].concat());
        assert_eq!((content.records, content.missing.len()), (1, 0));
        assert_eq!(content.stop, Some(Stop::Damaged("its kind is unknown")));
    }

    #[test]
    fn impossible_values_are_damage_although_the_checksum_matches() {
        assert_eq!(missing_payload([(1, 2, "lost")].into_iter()), None);
        let payload = missing_payload([(2, 1, "absent")].into_iter()).unwrap();
        let mut code = missing_payload([(1, 1, "absent")].into_iter()).unwrap();
        *code.last_mut().unwrap() = 3;
        let mut sides = vec![0; 49];
        sides[48] = 2;
        let records = [
            encode(Kind::Missing, 1, &payload),
            encode(Kind::Missing, 1, &code),
            encode(Kind::Trades, 1, &sides),
            encode(Kind::Late, 1, &sides),
            encode(Kind::Revision, 1, &[0xff]),
        ];
        for record in records {
            let content = Content::read(&record.unwrap());
            assert!(matches!(content.stop, Some(Stop::Damaged(_))));
            assert_eq!((content.records, content.length), (0, 0));
        }
    }
}
