//! Tables for people: fixed columns, so that a row can be printed the moment it is known.

/// Column titles and widths in characters.
#[derive(Debug)]
pub(super) struct Table {
    columns: Vec<(&'static str, usize)>,
}

impl Table {
    pub(super) fn new(columns: &[(&'static str, usize)]) -> Self {
        Self {
            columns: columns.to_vec(),
        }
    }

    pub(super) fn head(&self) -> String {
        let titles: Vec<String> = self.columns.iter().map(|(title, _)| (*title).to_owned()).collect();
        let rule: Vec<String> = self.columns.iter().map(|(_, width)| "─".repeat(*width)).collect();
        format!("{}\n{}", self.row(&titles), rule.join("  "))
    }

    /// One row; a cell that is too long is cut and says so. The last column may be as long as it likes.
    pub(super) fn row(&self, cells: &[impl AsRef<str>]) -> String {
        let mut line = String::new();
        for (index, ((_, width), cell)) in self.columns.iter().zip(cells).enumerate() {
            // A line break or an escape sequence in a name must not forge a row.
            let cell: String = cell
                .as_ref()
                .chars()
                .map(|c| if c.is_control() { ' ' } else { c })
                .collect();
            let length = cell.chars().count();
            let last = index + 1 == self.columns.len();
            if length > *width && !last {
                line.extend(cell.chars().take(width - 1));
                line.push('…');
            } else {
                line.push_str(&cell);
                if !last {
                    line.extend(std::iter::repeat_n(' ', width - length));
                }
            }
            if !last {
                line.push_str("  ");
            }
        }
        line.truncate(line.trim_end().len());
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_align_and_cannot_be_forged() {
        let table = Table::new(&[("name", 5), ("to", 3), ("end", 3)]);
        assert_eq!(table.row(&["abcdefgh", "é", "long tail"]), "abcd…  é    long tail");
        assert_eq!(table.row(&["a\nb", "", ""]), "a b");
        assert_eq!(table.head().lines().count(), 2);
    }
}
