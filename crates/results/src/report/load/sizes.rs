//! Sizes in ascending order: pages take the first as the smallest and the last as the largest, but files have them as they were asked for.

use crate::report::study::Trial;

/// The positions of `eps`, smallest first.
pub(super) fn ascending(eps: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..eps.len()).collect();
    order.sort_by(|a, b| eps[*a].total_cmp(&eps[*b]));
    order
}

/// Puts a trial's sizes, and all that it has by size, in this order.
pub(super) fn sort(trial: &mut Trial) {
    let order = ascending(&trial.eps);
    put(&mut trial.eps, &order);
    trial.attacks.iter_mut().flat_map(|attack| &mut attack.measures).for_each(|m| put(&mut m.by_eps, &order));
    for effort in &mut trial.efforts {
        put(&mut effort.damage, &order);
        put(&mut effort.curve, &order);
        put(&mut effort.forward, &order);
        put(&mut effort.backward, &order);
    }
    for attack in trial.gallery.iter_mut().flat_map(|gallery| &mut gallery.attacks) {
        put(&mut attack.images, &order);
        put(&mut attack.recon, &order);
    }
}

/// Puts one item for each size in this order; a list of another length is not by size, and stays.
fn put<T>(items: &mut Vec<T>, order: &[usize]) {
    if items.len() != order.len() {
        return;
    }
    let mut places: Vec<Option<T>> = std::mem::take(items).into_iter().map(Some).collect();
    items.extend(order.iter().filter_map(|at| places[*at].take()));
}
