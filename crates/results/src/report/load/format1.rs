//! Sweeps of format 1, in which relations and further sets of attacks have composed names: `unit-u1`,
//! `all.spectral_radius.unit-u1.recon_mse`. They are split at the words that are known.

use crate::report::words;
use crate::store::{Quantity, Relation};

/// Splits an attack's name into the key of its set and its own name: `unit-u1` is (`unit`, `u1`). Keys had no hyphen.
pub fn set_and_name(name: &str) -> (&str, &str) {
    match name.split_once('-') {
        Some((set, own)) if !words::is_attack(name) => (set, own),
        _ => ("", name),
    }
}

/// What the relation called `name` is about, in a group of relations over models (`across`) or in another group.
pub fn relation(name: &str, across: bool) -> Option<Relation> {
    let of_models = |name: &str| match name.split_once('.') {
        Some((models @ ("all" | "plain" | "mixup"), rest)) => Some((models.to_owned(), rest.to_owned())),
        _ => None,
    };
    if across {
        let (models, rest) = of_models(name)?;
        let (of, with) = pair(&rest)?;
        return Some(Relation { models: Some(models), of: Some(of), with });
    }
    match pair(name) {
        // `u1.recon_mse` and `output.trace` are one quantity.
        Some((of, with)) if quantity(name).is_none() => Some(Relation { models: None, of: Some(of), with }),
        _ => Some(Relation { models: None, of: None, with: quantity(name)? }),
    }
}

/// The two quantities of `a.b`, each of which may contain dots: the shortest known `a` leaves the longest `b`.
fn pair(name: &str) -> Option<(Quantity, Quantity)> {
    name.match_indices('.').find_map(|(at, _)| Some((quantity(&name[..at])?, quantity(&name[at + 1..])?)))
}

/// `beta`, a score (`trace`, `output.trace`, `output.singular.spectral_radius`) or damage (`u1.recon_mse`).
fn quantity(name: &str) -> Option<Quantity> {
    if name == "beta" {
        return Some(Quantity::Beta);
    }
    let (lead, last) = name.rsplit_once('.').unwrap_or(("", name));
    if words::SCORES.iter().any(|known| known.key == last) && lead.matches('.').count() < 2 {
        return Some(Quantity::Score(name.to_owned()));
    }
    if words::MEASURES.iter().any(|known| known.key == last) && !lead.is_empty() && !lead.contains('.') {
        let (set, attack) = set_and_name(lead);
        let (set, attack, measure) = (set.to_owned(), attack.to_owned(), last.to_owned());
        return Some(Quantity::Damage { set, attack, measure });
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_were_put_together_are_taken_apart() {
        let score = |name: &str| Quantity::Score(name.to_owned());
        let damage = |set: &str, attack: &str| Quantity::Damage {
            set: set.to_owned(),
            attack: attack.to_owned(),
            measure: "recon_mse".to_owned(),
        };
        let across = |name| relation(name, true).map(|r| (r.models.unwrap_or_default(), r.of, r.with));
        let all = || "all".to_owned();
        assert_eq!(across("all.beta.spectral_radius"), Some((all(), Some(Quantity::Beta), score("spectral_radius"))));
        assert_eq!(
            across("all.singular.entropy_maxnorm.unit-u1.recon_mse"),
            Some((all(), Some(score("singular.entropy_maxnorm")), damage("unit", "u1")))
        );
        assert_eq!(
            across("all.output.spectral_radius.pgd.recon_mse"),
            Some((all(), Some(score("output.spectral_radius")), damage("", "pgd")))
        );
        let within = |name| relation(name, false).map(|r| (r.of, r.with));
        assert_eq!(within("trace.unit-u1.recon_mse"), Some((Some(score("trace")), damage("unit", "u1"))));
        assert_eq!(within("output.trace"), Some((None, score("output.trace"))));
        assert_eq!(within("unit-u1.recon_mse"), Some((None, damage("unit", "u1"))));
        assert_eq!((across("root"), across("beta.trace"), within("root")), (None, None, None));
    }

    #[test]
    fn a_hyphen_may_be_the_attacks_own() {
        assert_eq!(set_and_name("spectral-iterated"), ("", "spectral-iterated"));
        assert_eq!(set_and_name("unit-spectral-iterated"), ("unit", "spectral-iterated"));
        assert_eq!((set_and_name("unit-u1"), set_and_name("pgd")), (("unit", "u1"), ("", "pgd")));
    }
}
