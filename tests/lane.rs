//! Copies beside the computation: what arrives is what was sent, whatever else is queued meanwhile.
//!
//! Everything runs on the CPU, where a lane copies nothing, and on CUDA too where there is a device.

use crate::device::devices;
use pullback::ffi::Lane;
use tch::{Device, Kind, Tensor};

fn numbers(n: i64, first: f64) -> Tensor {
    Tensor::arange(n, (Kind::Float, Device::Cpu)).reshape([n / 4, 4]) + first
}

#[test]
fn what_is_sent_arrives_while_the_device_is_busy() {
    for device in devices() {
        let (up, down) = (Lane::new(device).unwrap(), Lane::new(device).unwrap());
        let wide = Tensor::ones([512, 512], (Kind::Float, device)) / 512.0;
        let mut expected = vec![];
        let mut going = vec![];
        for round in 0..20 {
            let host = numbers(1 << 16, f64::from(round));
            let coming = up.upload(&host, Kind::Double).unwrap();
            // Keeps the computing stream behind: a copy that does not wait, or a buffer given away early, would be seen.
            let busy = wide.matmul(&wide).matmul(&wide).sum(Kind::Double);
            let there = coming.receive().unwrap();
            assert_eq!((there.device(), there.kind(), there.size()), (device, Kind::Double, host.size()));
            let result =
                (&there * &there + busy.to_kind(Kind::Double) - 512.0).sum_dim_intlist(1i64, false, Kind::Double);
            going.push(down.download(&result).unwrap());
            let host = host.to_kind(Kind::Double);
            expected.push((&host * &host).sum_dim_intlist(1i64, false, Kind::Double));
            // `there` and `result` are freed here, before anything is done.
        }
        for (going, expected) in going.into_iter().zip(&expected) {
            let arrived = going.wait().unwrap();
            assert_eq!(arrived.device(), Device::Cpu);
            // The products of ones are 512 within rounding.
            let gap = ((&arrived - expected) / expected.clamp_min(1.0)).abs().max().double_value(&[]);
            assert!(gap < crate::roundoff::apart(Kind::Float, &[512, 512]), "{gap}");
        }
        // Rounds differ: a buffer of another round would not have passed.
        assert!(!expected[0].allclose(&expected[1], 1e-4, 0.0, false));
    }
}

#[test]
fn a_thread_may_send_what_another_receives() {
    for device in devices() {
        let lane = Lane::new(device).unwrap();
        let sent = std::thread::spawn(move || lane.upload(&numbers(64, 0.5), Kind::Float).unwrap()).join().unwrap();
        // The lane is gone; its copy is not.
        let doubled = sent.receive().unwrap() * 2.0;
        let back = Lane::new(device).unwrap().download(&doubled.transpose(0, 1)).unwrap();
        let back = std::thread::spawn(move || back.wait().unwrap()).join().unwrap();
        assert_eq!(back.size(), [4, 16]);
        assert!(back.transpose(0, 1).equal(&(numbers(64, 0.5) * 2.0)));
    }
}

#[test]
fn an_upload_of_another_kind_is_refused() {
    let lane = Lane::new(Device::Cpu).unwrap();
    let error = lane.upload(&numbers(8, 0.0), Kind::Int64).unwrap_err();
    assert_eq!((error.exit_code(), error.to_string().contains("Int64")), (2, true));
}
