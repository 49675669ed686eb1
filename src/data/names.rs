//! The usual names of images and labels in files of arrays.

use crate::data::Split;

/// The names of a split's images.
pub fn of_split(split: Split) -> impl Iterator<Item = String> {
    split.names().iter().flat_map(|n| [format!("{n}_images"), format!("x_{n}"), format!("X_{n}")])
}

/// The possible names of the labels of the images called `name`, which may end in `.npy`.
pub fn of_labels(name: &str) -> Vec<String> {
    let (stem, end) = name.strip_suffix(".npy").map_or((name, ""), |stem| (stem, ".npy"));
    // scikit-learn's y is small beside its X.
    let of_x = [("x", "y"), ("X", "Y"), ("X", "y")].into_iter().filter_map(|(x, y)| match stem {
        _ if stem == x => Some(y.to_owned()),
        _ => (stem.strip_prefix(x).filter(|rest| rest.starts_with('_')).map(|rest| format!("{y}{rest}")))
            .or_else(|| stem.strip_suffix(x).filter(|rest| rest.ends_with('_')).map(|rest| format!("{rest}{y}"))),
    });
    let replaced = ["images", "imgs"].into_iter().filter(|w| stem.contains(w)).map(|w| stem.replace(w, "labels"));
    of_x.chain(replaced).map(|name| name + end).collect()
}

/// The names of labels that may belong to images of any name, if there are as many; none for the images of a split, whose labels have its name.
pub fn of_any_labels(name: &str) -> impl Iterator<Item = &'static str> {
    let split = Split::ALL.into_iter().flat_map(of_split).any(|images| images == name);
    ["labels", "y", "Y"].into_iter().filter(move |labels| !split && *labels != name)
}
