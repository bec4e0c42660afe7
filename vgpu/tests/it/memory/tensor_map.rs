//! Tensor maps: each rule's refusal, what is read back, and boxes against a loop over their elements.

use vgpu_cuda::mem::tensor_map::{MAX_RANK, MapElement, Swizzle, TensorMap, swizzled};

use crate::random::Random;

/// A matrix of 100 × 200 halves; boxes of 8 × 64.
fn matrix() -> TensorMap {
    TensorMap {
        element: MapElement::F16,
        rank: 2,
        address: 0x7f00_0000_0400,
        dims: [200, 100, 1, 1, 1],
        strides: [2, 400, 0, 0, 0],
        box_dims: [64, 8, 1, 1, 1],
        element_strides: [1; MAX_RANK],
        swizzle: Swizzle::B128,
        l2: 2,
        nan_fill: false,
    }
}

#[test]
fn each_rule_names_the_value_that_breaks_it() {
    assert_eq!(matrix().check(), Ok(()));
    type Change = fn(&mut TensorMap);
    let cases: [(Change, &str); 17] = [
        (|m| m.rank = 0, "tensorRank is 0"),
        (|m| m.rank = 6, "tensorRank is 6"),
        (|m| m.address += 8, "globalAddress 0x7f0000000408"),
        (|m| m.dims[1] = 0, "globalDim[1] is 0"),
        (|m| m.dims[0] = (1 << 32) + 1, "globalDim[0] is 4294967297"),
        (|m| m.strides[1] = 408, "globalStrides[0] is 408"),
        (|m| m.strides[1] = 1 << 40, "globalStrides[0] is 1099511627776"),
        (|m| m.box_dims[1] = 0, "boxDim[1] is 0"),
        (|m| m.box_dims[1] = 257, "boxDim[1] is 257"),
        (|m| m.box_dims[0] = 60, "boxDim[0] is 60 elements of 2 bytes"),
        (|m| m.box_dims[0] = 72, "boxDim[0] is 144 bytes, more than the 128"),
        (|m| m.swizzle = Swizzle::B64, "boxDim[0] is 128 bytes, more than the 64"),
        (|m| m.swizzle = Swizzle::B32, "boxDim[0] is 128 bytes, more than the 32"),
        (|m| m.element_strides[1] = 0, "elementStrides[1] is 0"),
        (|m| m.element_strides[0] = 9, "elementStrides[0] is 9"),
        (|m| m.l2 = 4, "l2Promotion is 4"),
        (|m| (m.element, m.nan_fill) = (MapElement::U16, true), "oobFill is NaN, but elements are U16"),
    ];
    for (change, expected) in cases {
        let mut map = matrix();
        change(&mut map);
        let message = map.check().expect_err(expected);
        assert!(message.contains(expected), "{expected}: {message}");
    }
    // The edges of what is allowed.
    let mut map = matrix();
    (map.dims[1], map.strides[1], map.box_dims[1], map.element_strides[1]) = (1 << 32, (1 << 40) - 16, 256, 8);
    assert_eq!(map.check(), Ok(()));
}

#[test]
fn a_map_is_read_back_and_a_changed_one_is_not() {
    let mut random = Random(1);
    for _ in 0..200 {
        let map = random_map(&mut random);
        assert_eq!(map.check(), Ok(()));
        let bytes = map.encode();
        assert_eq!(TensorMap::decode(&bytes), Ok(map));
        let mut changed = bytes;
        changed[4 + random.below(124) as usize] ^= 1 << random.below(8);
        assert!(TensorMap::decode(&changed).expect_err("changed").contains("was changed after"));
    }
    assert!(TensorMap::decode(&[0; 128]).expect_err("never made").contains("no tensor map"));
}

#[test]
fn a_swizzle_only_changes_the_places_of_lines_within_its_span() {
    for (swizzle, span) in [(Swizzle::None, 16), (Swizzle::B32, 32), (Swizzle::B64, 64), (Swizzle::B128, 128)] {
        let mut seen = vec![false; 4096];
        for address in 0..4096u64 {
            let to = swizzled(address, swizzle);
            assert_eq!((to / span, to % 16), (address / span, address % 16), "{swizzle:?} {address}");
            assert!(!std::mem::replace(&mut seen[to as usize], true), "{swizzle:?}: two bytes at {to}");
        }
    }
    // Line 2 of row 5 of a tile of 128 bytes a row.
    assert_eq!(swizzled(5 * 128 + 2 * 16 + 3, Swizzle::B128), 5 * 128 + 7 * 16 + 3);
    assert_eq!(swizzled(5 * 128 + 2 * 16 + 3, Swizzle::B64), 5 * 128 + 3 * 16 + 3);
    assert_eq!(swizzled(5 * 128 + 2 * 16 + 3, Swizzle::B32), 5 * 128 + 3 * 16 + 3);
}

/// A valid map without and with everything: small tensors, so that boxes hang over their edges.
fn random_map(random: &mut Random) -> TensorMap {
    let element = MapElement::from_code(random.below(13) as u32).expect("a type");
    let bytes = element.bytes() as u64;
    let rank = 1 + random.below(5) as usize;
    let (mut dims, mut strides) = ([1; MAX_RANK], [0; MAX_RANK]);
    let (mut box_dims, mut element_strides) = ([1; MAX_RANK], [1; MAX_RANK]);
    strides[0] = bytes;
    let mut extent = bytes;
    for i in 0..rank {
        dims[i] = 1 + random.below(if i == 0 { 200 } else { 20 });
        if i > 0 {
            strides[i] = extent.next_multiple_of(16) + 16 * random.below(3);
            element_strides[i] = 1 + (random.below(2) * random.below(8)) as u32;
        }
        extent = extent.max(dims[i] * strides[i]);
        box_dims[i] =
            if i == 0 { 16 / bytes as u32 * (1 + random.below(8) as u32) } else { 1 + random.below(7) as u32 };
    }
    let inner = box_dims[0] as u64 * bytes;
    let swizzle = [Swizzle::None, Swizzle::B128, Swizzle::B64, Swizzle::B32][random.below(match inner {
        ..=32 => 4,
        33..=64 => 3,
        _ => 2,
    }) as usize];
    let nan_fill = matches!(element, MapElement::F16 | MapElement::Bf16 | MapElement::F32) && random.below(2) == 0;
    let (address, l2) = (16 * random.below(1 << 40), random.below(4) as u32);
    TensorMap { element, rank, address, dims, strides, box_dims, element_strides, swizzle, l2, nan_fill }
}

/// Each byte of a box, in order: its global address, or none.
fn element_by_element(map: &TensorMap, coordinates: &[i32]) -> Vec<Option<u64>> {
    let mut bytes = Vec::new();
    let count = |i: usize| if i < map.rank { map.box_dims[i].div_ceil(map.element_strides[i]) as i64 } else { 1 };
    let mut place = [0i64; MAX_RANK];
    for e in 0..(0..MAX_RANK).map(count).product::<i64>() {
        let mut rest = e;
        for (i, place) in place.iter_mut().enumerate() {
            let start = coordinates.get(i).map_or(0, |&c| c as i64);
            *place = start + rest % count(i) * map.element_strides[i] as i64;
            rest /= count(i);
        }
        let inside = (0..map.rank).all(|i| (0..map.dims[i] as i64).contains(&place[i]));
        let address = map.address as i64 + (0..map.rank).map(|i| place[i] * map.strides[i] as i64).sum::<i64>();
        bytes.extend((0..map.element.bytes() as i64).map(|b| inside.then_some((address + b) as u64)));
    }
    bytes
}

#[test]
fn boxes_are_those_of_a_loop_over_elements() {
    let mut random = Random(2);
    let (mut outside, mut inside) = (0, 0);
    for round in 0..3000 {
        let map = random_map(&mut random);
        let coordinates: Vec<i32> = (0..map.rank)
            .map(|i| match random.below(40) {
                0 => i32::MIN,
                1 => i32::MAX,
                _ => random.below(map.dims[i] + map.box_dims[i] as u64) as i32 - map.box_dims[i] as i32,
            })
            .collect();
        let expected = element_by_element(&map, &coordinates);
        assert_eq!(map.box_bytes(), expected.len(), "{map:?}");
        let mut found = Vec::new();
        map.walk(&coordinates, |at, address, length| {
            assert_eq!(at, found.len(), "in order, {map:?}");
            assert!(length > 0 && at / 16 == (at + length - 1) / 16, "{length} bytes at {at}, {map:?}");
            found.extend((0..length as u64).map(|i| address.map(|a| a + i)));
        });
        assert_eq!(found, expected, "round {round}: {map:?} at {coordinates:?}");
        outside += expected.iter().filter(|a| a.is_none()).count();
        inside += expected.iter().filter(|a| a.is_some()).count();
    }
    assert!(outside > 100_000 && inside > 100_000, "{outside} bytes outside, {inside} inside");
}

#[test]
fn outside_stands_zero_or_nan() {
    let mut map = matrix();
    assert_eq!(map.fill(), [0; 16]);
    map.nan_fill = true;
    assert!(map.fill().chunks(2).all(|half| half == [0xff, 0x7f]));
    map.element = MapElement::F32;
    assert!(map.fill().chunks(4).all(|word| f32::from_bits(u32::from_le_bytes(word.try_into().unwrap())).is_nan()));
}
