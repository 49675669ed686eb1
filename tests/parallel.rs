//! Work on libtorch's threads: every part once, in order, errors told.

use pullback::Error;
use pullback::ffi::parallel::each;
use tch::{Kind, Tensor};

#[test]
fn parts_are_answered_in_order() {
    let parts: Vec<i64> = (0..37).collect();
    let squares = each(parts, |i, part| {
        assert_eq!(i as i64, part);
        Ok(Tensor::from_slice(&[part]).square().int64_value(&[0]))
    });
    assert_eq!(squares.unwrap(), (0..37).map(|i| i * i).collect::<Vec<i64>>());
    assert!(each(Vec::<i64>::new(), |_, part| Ok(part)).unwrap().is_empty());
}

#[test]
fn parts_go_side_by_side_where_there_are_threads() {
    let threads: std::collections::HashSet<_> =
        each(vec![(); 64], |_, ()| Ok(std::thread::current().id())).unwrap().into_iter().collect();
    assert_eq!(threads.len(), tch::get_num_threads() as usize);
}

#[test]
fn the_first_error_is_told_and_a_panic_is_one() {
    let wrong = each(vec![1, 2, 3], |_, part| match part {
        1 => Ok(()),
        _ => Err(Error::request("part", "1", part.to_string())),
    });
    assert!(wrong.unwrap_err().to_string().contains('2'));
    let ended = each(vec![1, 2], |_, part| {
        assert!(part == 1, "a panic that the test wants");
        Ok(())
    });
    assert!(ended.unwrap_err().to_string().contains("ended early"));
}

#[test]
fn a_part_may_differentiate() {
    let gradients = each(vec![2.0, 3.0, 4.0, 5.0], |_, at| {
        let x = Tensor::from_slice(&[at]).set_requires_grad(true);
        let value = x.square().sum(Kind::Double);
        Ok(Tensor::run_backward(&[value], &[&x], false, false)[0].double_value(&[0]))
    });
    assert_eq!(gradients.unwrap(), [4.0, 6.0, 8.0, 10.0]);
}
