//! safetensors: headers that say what is not so. (Most of it is the `safetensors` crate's to find.)

use testing::checkpoint::safetensors;
use torch_file::{Dtype, Format, Options};

use crate::{floats, open_bytes, refusal};

fn file(header: &str, data: usize) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &vec![0; data]].concat()
}

#[test]
fn tensors_and_metadata_are_read() {
    let bytes = [1.5f32, -2.0].iter().flat_map(|x| x.to_le_bytes()).collect();
    let tensors = [("b".to_owned(), Dtype::F32, vec![2], bytes), ("a".to_owned(), Dtype::U8, vec![0, 7], vec![])];
    let file = open_bytes(&safetensors(&tensors, Some(("format", "pt".to_owned())))).unwrap();
    assert_eq!(file.format(), Format::Safetensors);
    assert_eq!(file.names().collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(file.metadata()["format"], "pt");
    assert_eq!(file.info("b").unwrap().to_string(), "F32 [2]");
    assert_eq!((file.info("b").unwrap().bytes(), file.info("a").unwrap().count()), (8, 0));
    assert_eq!(floats(&file, "b", &[2]), [1.5, -2.0]);
}

/// The whole of a file, byte by byte: for a checksum of one's own.
#[test]
fn the_files_own_bytes_are_read() {
    let bytes = file(r#"{"a":{"dtype":"U8","shape":[3],"data_offsets":[0,3]}}"#, 3);
    let file = open_bytes(&bytes).unwrap();
    let mut all = vec![1; bytes.len()];
    file.read_at(0, &mut all).unwrap();
    assert_eq!((all, file.size()), (bytes.clone(), bytes.len() as u64));
    assert!(file.read_at(1, &mut vec![0; bytes.len()]).unwrap_err().to_string().contains("cut short"));
}

#[test]
fn headers_that_lie_are_refused() {
    let tensor = |offsets: &str| format!(r#"{{"a":{{"dtype":"F32","shape":[2],"data_offsets":{offsets}}}}}"#);
    assert!(open_bytes(&file(&tensor("[0,8]"), 8)).is_ok());
    for (header, data, words) in [
        (tensor("[0,8]"), 7, "its header describes"),
        (tensor("[0,8]"), 9, "its header describes"),
        (tensor("[0,4]"), 4, "header is damaged"),
        (tensor("[4,12]"), 12, "header is damaged"),
        ("{".to_owned(), 0, "header is damaged"),
        ("{}".to_owned(), 0, "holds no tensors"),
        (format!(r#"{{"a":{{"dtype":"F32","shape":{:?},"data_offsets":[0,4]}}}}"#, [1; 17]), 4, "17 dimensions"),
    ] {
        let message = refusal(&file(&header, data));
        assert!(message.contains(words), "{header}: {message}");
    }
    let long = format!("{{{}}}", " ".repeat(5 << 20));
    assert!(refusal(&file(&long, 0)).contains("at most 4 MiB are read"));
}

/// It has no dicts: who names one would read another's tensors.
#[test]
fn the_keys_of_a_dict_are_refused() {
    let bytes = file(r#"{"a":{"dtype":"U8","shape":[3],"data_offsets":[0,3]}}"#, 3);
    let options = Options::new().dict(["ema", "model"]);
    assert_eq!(format!("{options:?}"), r#"Options { dict: ["ema", "model"], holding: false }"#);
    let message = options.open_bytes("file", bytes.clone()).unwrap_err().to_string();
    assert!(message.contains("no dicts such as ema.model; open it without"), "{message}");
    assert!(Options::new().holding(|name| name == "b").open_bytes("file", bytes).is_ok());
}
