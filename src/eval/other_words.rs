//! Words for what no label names ("other", "a", "me"): each is measured alone, as the last of the labels.

use super::dataset::{Dataset, Item, Purpose, WordList};

/// A list of words for each of `others`, to be looked for in every photo: pixels whose ids have no label are the
/// rest's.
pub fn lists(dataset: &Dataset, others: &[String]) -> Dataset {
    let WordList { words, labels, truth, .. } = &dataset.lists[0];
    let truth = truth.clone().with_rest(*labels as u16);
    let list = |other: &String| {
        let words = words.iter().chain([other]).cloned().collect();
        WordList { purpose: Purpose::Rest, ..WordList::of_labels(words, truth.clone()) }
    };
    let asked = |item: &Item| (0..others.len()).map(|list| Item { list, ..item.clone() }).collect::<Vec<_>>();
    Dataset { lists: others.iter().map(list).collect(), items: dataset.items.iter().flat_map(asked).collect() }
}
