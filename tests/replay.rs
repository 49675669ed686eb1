//! Work that is repeated on fixed buffers, and the loops that were made of it, against the loops written out.
//!
//! Everything runs on the CPU, and on CUDA too where there is a device: there the same work is a graph.

use crate::attack::toy::{Toy, images};
use pullback::attack::{AttackSpec, Budget, Goal, Landing, Loops, Norm, PgdSpec, Schedule, Victim, run};
use pullback::event::{Event, Observer};
use pullback::ffi::Replay;
use pullback::ffi::step::Iterate;
use pullback::seed::{self, Stage};
use std::cell::Cell;
use std::rc::Rc;
use std::sync::Mutex;
use tch::{Device, Kind, Tensor};

fn devices() -> Vec<Device> {
    let mut devices = vec![Device::Cpu];
    devices.extend(crate::device::cuda().then_some(Device::Cuda(0)));
    devices
}

/// w falls along the gradient of |w - target|^2, the target changing from run to run: forward, backward and step in place.
#[test]
fn work_runs_on_what_its_buffers_hold_now() {
    for device in devices() {
        let w = Tensor::zeros([3], (Kind::Double, device));
        let target = Tensor::zeros([3], (Kind::Double, device));
        let bodies = Cell::new(0);
        let mut step = Replay::new(device);
        let work = || {
            bodies.set(bodies.get() + 1);
            let leaf = w.f_detach()?.f_set_requires_grad(true)?;
            let loss = leaf.f_sub(&target)?.f_square()?.f_sum(None)?;
            let gradient = Tensor::f_run_backward(&[loss], &[&leaf], false, false)?;
            let _ = w.shallow_clone().f_sub_(&gradient[0].f_mul_scalar(0.25)?)?;
            Ok(())
        };
        let mut expected = 0.0;
        for t in 0..8 {
            let _ = target.shallow_clone().fill_(f64::from(t));
            step.run(&work).unwrap();
            // w - 2 (w - t) / 4
            expected = 0.5 * expected + 0.5 * f64::from(t);
        }
        assert_eq!(step.refusal().is_some(), !device.is_cuda(), "{:?}", step.refusal());
        drop(step);
        assert_eq!(Vec::<f64>::try_from(&w).unwrap(), [expected; 3]);
        // A stale buffer would have been seen.
        assert!((expected - 7.0).abs() > 0.5);
        assert_eq!(bodies.get(), if device.is_cuda() { 4 } else { 8 });
    }
}

#[test]
fn an_error_of_the_work_is_told() {
    for device in devices() {
        let mut step = Replay::new(device);
        let work = || Err(pullback::Error::Native { routine: "work", message: "failed".to_owned() });
        // On CUDA the capture, which is the fourth, fails, and so does the plain run after it.
        for _ in 0..6 {
            assert_eq!(step.run(&work).unwrap_err().to_string(), "work: failed");
        }
    }
    let mut step = Replay::new(Device::Cpu);
    step.run(|| Ok(())).unwrap();
    assert_eq!(step.refusal(), Some("a CPU has none"));
}

/// Work that asks the device for a number cannot be captured. It goes on uncaptured, libtorch's allocator is in no capture
/// afterwards (else it would give back nothing that a copy has used), and the next capture is a good one.
#[test]
fn a_capture_that_fails_leaves_nothing_behind() {
    use pullback::ffi::{Lane, memory::cuda_memory};
    for device in devices() {
        let x = Tensor::ones([64, 64], (Kind::Float, device));
        let mut asking = Replay::new(device);
        let work = || {
            let sum = x.f_sum(None::<Kind>)?.f_double_value(&[])?;
            assert_eq!(sum, 4096.0);
            Ok(())
        };
        for _ in 0..6 {
            asking.run(work).unwrap();
        }
        assert!(asking.refusal().is_some());
        // Room for 100 uploads of 32 MB would be 3.2 GB.
        let host = Tensor::zeros([8 << 20], (Kind::Float, Device::Cpu));
        let lane = Lane::new(device).unwrap();
        let free = || if let Device::Cuda(n) = device { cuda_memory(n).unwrap().0 } else { 0 };
        drop(lane.upload(&host, Kind::Float).unwrap().receive().unwrap());
        pullback::device::synchronize(device).unwrap();
        let before = free();
        for _ in 0..if device.is_cuda() { 100 } else { 2 } {
            let there = lane.upload(&host, Kind::Float).unwrap().receive().unwrap();
            drop(there + 1.0);
            pullback::device::synchronize(device).unwrap();
        }
        assert!(free() + (256 << 20) > before, "{} bytes are gone", before - free());
        let mut good = Replay::new(device);
        let y = Tensor::zeros([4], (Kind::Float, device));
        for _ in 0..6 {
            good.run(|| y.shallow_clone().f_add_scalar_(1.0).map(drop).map_err(Into::into)).unwrap();
        }
        assert_eq!(good.refusal().is_some(), !device.is_cuda(), "{:?}", good.refusal());
        assert_eq!(Vec::<f32>::try_from(&y).unwrap(), [6.0; 4]);
    }
}

/// Two threads capture and replay on one device, while a third waits for it again and again.
#[test]
fn threads_do_not_break_each_others_captures() {
    for device in devices() {
        std::thread::scope(|scope| {
            let counting = |rounds: i32| {
                for _ in 0..rounds {
                    let y = Tensor::zeros([1000], (Kind::Float, device));
                    let mut step = Replay::new(device);
                    for _ in 0..20 {
                        step.run(|| y.shallow_clone().f_add_scalar_(1.0).map(drop).map_err(Into::into)).unwrap();
                    }
                    assert_eq!(step.refusal().is_some(), !device.is_cuda(), "{:?}", step.refusal());
                    assert_eq!(y.sum(Kind::Float).double_value(&[]), 20_000.0);
                }
            };
            for _ in 0..2 {
                scope.spawn(move || counting(20));
            }
            scope.spawn(move || {
                for _ in 0..200 {
                    drop(Tensor::ones([1000], (Kind::Float, device)) * 2.0);
                    pullback::device::synchronize(device).unwrap();
                }
            });
        });
    }
}

/// What the allocator holds and nobody uses is there to be had; what is in use is not.
#[test]
fn the_memory_of_a_device_counts_what_lies_idle() {
    use pullback::ffi::memory::cuda_memory;
    // No such device.
    assert!(cuda_memory(99).is_err());
    if !crate::device::cuda() {
        return;
    }
    const SIZE: i64 = 1 << 30;
    let near = |a: u64, b: u64| a.abs_diff(b) < 64 << 20;
    let (before, total) = cuda_memory(0).unwrap();
    let held = Tensor::zeros([SIZE / 4], (Kind::Float, Device::Cuda(0)));
    let (with, _) = cuda_memory(0).unwrap();
    assert!(near(with + SIZE as u64, before) && before <= total, "{before} {with} {total}");
    drop(held);
    assert!(near(cuda_memory(0).unwrap().0, before));
}

/// The ascent as a loop that makes new tensors, in the words of its definition.
fn ascent(victim: &Victim, budget: &Budget, spec: &PgdSpec, lengths: impl Fn(usize) -> f64) -> Tensor {
    let x0 = victim.images();
    let noise = seed::normal_stream(victim.seed(), Stage::AttackStart, 0, victim.index(), 16).unwrap();
    let noise = noise.to_kind(x0.kind()).view_as(x0);
    let start = match budget.norm {
        Norm::L2 | Norm::L1 => budget.along(&noise).unwrap(),
        Norm::Linf => (noise * std::f64::consts::FRAC_1_SQRT_2).erf(),
    };
    let mut x = budget.contract(x0, &(x0 + start * budget.epsilon)).unwrap();
    let mut best: Option<(Tensor, Tensor)> = None;
    let mut stalled = Tensor::zeros([x0.size()[0]], (Kind::Bool, x0.device()));
    for t in 0..=spec.steps {
        let (value, gradient) = spec.goal.value_and_gradient(victim, &x).unwrap();
        best = Some(match best {
            None => (x.shallow_clone(), value),
            Some((images, damage)) => {
                let better = value.gt_tensor(&damage);
                (x.where_self(&better.reshape([-1, 1, 1, 1]), &images), value.where_self(&better, &damage))
            }
        });
        let lengths = Tensor::from_slice(&[budget.epsilon * lengths(t), budget.epsilon]).to_device(x0.device());
        let (mut next, mut unused) = (x.copy(), x.copy());
        let mut damage = Tensor::zeros([x0.size()[0]], (Kind::Double, x0.device()));
        let value = damage.copy();
        let iterate = Iterate { x: &mut next, best: &mut unused, damage: &mut damage, stalled: &mut stalled };
        budget.take_step(iterate, x0, &gradient, &value, &lengths, Landing::Ball).unwrap();
        x = next;
    }
    budget.project(x0, &best.unwrap().0).unwrap()
}

/// Bit for bit, and the reason for no graph is told once.
#[test]
fn an_ascent_on_buffers_is_the_ascent() {
    #[derive(Default)]
    struct Ear(Mutex<Vec<String>>);
    impl Observer for Ear {
        fn on(&self, event: Event<'_>) {
            if let Event::Detail(text) = event {
                self.0.lock().unwrap().push(text.to_owned());
            }
        }
    }
    for kind in [Kind::Double, Kind::Float] {
        for (norm, schedule) in [(Norm::L2, Schedule::Constant), (Norm::Linf, Schedule::Linear)] {
            let (toy, x, index) = (Toy::tanh(kind), images(5, 7).to_kind(kind), [0, 1, 2, 3, 4, 5, 9]);
            let ear = Ear::default();
            let victim = Victim::new(&toy, &x, &index, 3, None).unwrap().with_observer(&ear);
            let budget = Budget::new(norm, 0.3, Some((0.0, 1.0))).unwrap();
            let spec = PgdSpec { steps: 9, schedule, goal: Goal::Skl, ..PgdSpec::default() };
            let got = tch::no_grad(|| run(&AttackSpec::Pgd(spec.clone()), &victim, &budget)).unwrap();
            let length = |t: usize| match schedule {
                Schedule::Constant => 2.5 / 9.0,
                Schedule::Linear => 2.0 * (1.0 - t as f64 / 9.0),
            };
            let expected = tch::no_grad(|| ascent(&victim, &budget, &spec, length));
            assert!(got[0].images.equal(&expected), "{kind:?} {norm:?}");
            // The comparison can fail: steps a millionth longer.
            let other = tch::no_grad(|| ascent(&victim, &budget, &spec, |t| 1.000_001 * length(t)));
            assert!(norm == Norm::Linf || !got[0].images.equal(&other), "{kind:?} {norm:?}");
            let told = ear.0.into_inner().unwrap();
            assert!(told.len() == 1 && told[0].ends_with("a CPU has none"), "{told:?}");
        }
    }
}

/// What is kept from batch to batch carries nothing over but room: another epsilon, norm or box, a second start, a shorter last
/// batch and the batch after it come out as on their own, bit for bit.
#[test]
fn batches_that_share_their_loops_do_not_share_results() {
    for device in devices() {
        let toy = Toy::tanh(Kind::Float).to(device);
        let loops = Rc::new(Loops::on(&toy));
        for (seed, count) in [(11, 6), (12, 6), (13, 2), (14, 6)] {
            let x = images(seed, count).to_kind(Kind::Float).to_device(device);
            let index: Vec<u64> = (0..count as u64).collect();
            for (norm, epsilon, pixels) in
                [(Norm::L2, 0.3, None), (Norm::L2, 1.5, None), (Norm::L1, 0.8, Some((0.0, 1.0))), (Norm::L2, 0.3, None)]
            {
                let budget = Budget::new(norm, epsilon, pixels).unwrap();
                for goal in [Goal::Latent, Goal::ReconMse] {
                    let spec = AttackSpec::Pgd(PgdSpec { steps: 6, restarts: 2, goal, ..PgdSpec::default() });
                    let shared = Victim::among(loops.clone(), &x, &index, 3, None).unwrap();
                    let alone = Victim::new(&toy, &x, &index, 3, None).unwrap();
                    let [shared, alone] =
                        [shared, alone].map(|victim| run(&spec, &victim, &budget).unwrap().remove(0).images);
                    assert!(shared.equal(&alone), "{device:?}, batch {seed}, {norm} {epsilon}, {goal}");
                }
            }
        }
    }
}
