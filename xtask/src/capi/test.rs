//! What holds the library for C: programs of two compilers, projects of CMake and pkg-config, valgrind, its symbols and its layout.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::thread;

use super::programs::{Compiler, Workshop, compilers, part, said};
use super::tools::Tools;
use super::{SONAME, install_dev, package};
use crate::{Outcome, Places, cargo, library, nvcc};

/// A network that is small enough for valgrind, of random weights.
const SMALL_MODEL: &str = "tests/golden/vit32/model.ckpt";

pub fn test(places: &Places) -> Outcome {
    let tools = part("tools are there", || Tools::find(places))?;
    let folder = places.target.join("capi-test");
    let workshop = Workshop { places, prefix: folder.join("installed"), folder };
    part("built and installed", || install_dev(places, &workshop.prefix))?;
    part("the header is cbindgen's", || header(places))?;
    let compilers = compilers(&tools);
    let of = |name: &str| compilers.iter().find(|compiler| compiler.name == name).expect("it is in the list");
    part("symbols and layout are those of tests/abi.txt", || abi(&workshop, of("gcc")))?;
    thread::scope(|scope| {
        let checked = scope.spawn(|| part("valgrind: no error, no leak", || valgrind(&workshop, &tools, of("gcc"))));
        for compiler in &compilers {
            part(&format!("programs of {}", compiler.name), || programs(&workshop, compiler))?;
        }
        part("docs/c.md compiles", || documented(&workshop, &compilers))?;
        part("CMake, shared and static", || cmake(&workshop, &tools))?;
        part("pkg-config, shared and static", || pkg_config(&workshop))?;
        part("CUDA memory, on the virtual GPU", || cuda(&workshop, of("gcc")))?;
        checked.join().map_err(|_| "valgrind's thread panicked")?
    })
}

/// By the test that `cargo test --workspace` runs too, and so of the same build.
fn header(places: &Places) -> Outcome {
    let mut test = cargo();
    test.current_dir(&places.root).args(["test", "--quiet", "--locked", "--workspace", "--test", "header"]);
    said(&mut test, "cargo test --test header").map(|_| ())
}

/// Exported names, the library's own name, and the layout of structs, held against a file; LSEG_WRITE_ABI=1 writes it.
fn abi(workshop: &Workshop, gcc: &Compiler) -> Outcome {
    let package = package(workshop.places);
    let layout = workshop.compile(gcc, &package.join("tests/layout.c"), "layout", &[])?;
    let library = workshop.prefix.join("lib").join(SONAME);
    let symbols = said(Command::new("nm").args(["-D", "--defined-only", "--format=just-symbols"]).arg(&library), "nm")?;
    let dynamic = said(Command::new("readelf").arg("-d").arg(&library), "readelf")?;
    if !dynamic.contains(&format!("soname: [{SONAME}]")) {
        return Err(format!("{}: its soname is not {SONAME}:\n{dynamic}", library.display()));
    }
    let mut names: Vec<&str> = symbols.lines().collect();
    names.sort_unstable();
    let found = format!("{}\n{}", said(&mut Command::new(layout), "layout")?, names.join("\n") + "\n");
    if !SONAME.ends_with(&format!(".{}", found.split_whitespace().nth(1).unwrap_or_default())) {
        return Err(format!("LSEG_ABI is not the number in {SONAME}"));
    }
    let golden = package.join("tests/abi.txt");
    if std::env::var_os("LSEG_WRITE_ABI").is_some() {
        fs::write(&golden, &found).map_err(|e| format!("{}: {e}", golden.display()))?;
    }
    let expected = fs::read_to_string(&golden).map_err(|e| format!("{}: {e}", golden.display()))?;
    if found == expected {
        return Ok(());
    }
    Err(format!(
        "{}: the library has\n{found}; LSEG_WRITE_ABI=1 writes it, and a change that older programs do not survive is another LSEG_ABI",
        golden.display()
    ))
}

fn programs(workshop: &Workshop, compiler: &Compiler) -> Outcome {
    let tests = package(workshop.places).join("tests");
    if compiler.is_cpp {
        let wrapper = workshop.compile(compiler, &tests.join("wrapper.cpp"), "wrapper", &[])?;
        return if compiler.links { said(&mut Command::new(wrapper), "wrapper").map(|_| ()) } else { Ok(()) };
    }
    let api = workshop.compile(compiler, &tests.join("api.c"), "api", &[])?;
    let (mut api, small) = (Command::new(api), workshop.places.root.join(SMALL_MODEL));
    if compiler.name != "gcc" {
        api.env("LSEG_TEST_MODEL", &small);
    }
    said(&mut api, "api")?;
    let threads = workshop.compile(compiler, &tests.join("threads.c"), "threads", &[])?;
    let stream = workshop.compile(compiler, &tests.join("stream.c"), "stream", &[])?;
    let counting = workshop.compile(compiler, &tests.join("frames.c"), "frames", &["-DCOUNT_ALLOCATIONS"])?;
    // What the library does is the same for all of them: one says it.
    if compiler.name == "gcc" {
        said(&mut Command::new(threads), "threads")?;
        said(Command::new(stream).env("LSEG_TEST_MODEL", &small), "stream")?;
        said(Command::new(counting).arg("100").env("LSEG_TEST_MODEL", small), "frames")?;
    }
    Ok(())
}

/// Every error path, and 100 frames of four engines.
fn valgrind(workshop: &Workshop, tools: &Tools, gcc: &Compiler) -> Outcome {
    let Some(valgrind) = &tools.valgrind else {
        eprintln!("left out: valgrind is not installed");
        return Ok(());
    };
    let tests = package(workshop.places).join("tests");
    for (name, arguments) in [("api", &[][..]), ("stream", &["6"]), ("frames", &["25"])] {
        let program = workshop.compile(gcc, &tests.join(format!("{name}.c")), &format!("{name}-valgrind"), &[])?;
        let mut command = Command::new(valgrind);
        // What is lost; what statics point into ("possibly lost") is counted by frames.c itself.
        command.args([
            "--quiet",
            "--error-exitcode=9",
            "--leak-check=full",
            "--errors-for-leak-kinds=definite,indirect",
        ]);
        command.args(["--show-leak-kinds=definite,indirect", "--fair-sched=yes"]).arg(program).args(arguments);
        command.env("LSEG_TEST_MODEL", workshop.places.root.join(SMALL_MODEL)).env_remove("LD_LIBRARY_PATH");
        said(&mut command, &format!("valgrind {name}"))?;
    }
    Ok(())
}

/// The code blocks that name C or C++: whole programs.
fn documented(workshop: &Workshop, compilers: &[Compiler]) -> Outcome {
    let page = workshop.places.root.join("docs/c.md");
    let text = fs::read_to_string(&page).map_err(|e| format!("{}: {e}", page.display()))?;
    for (language, is_cpp) in [("c", false), ("cpp", true)] {
        let blocks: Vec<&str> =
            text.split(&format!("```{language}\n")).skip(1).filter_map(|rest| rest.split("```").next()).collect();
        if blocks.is_empty() {
            return Err(format!("{} has no block of {language}", page.display()));
        }
        for (i, block) in blocks.iter().enumerate() {
            let source = workshop.folder.join(format!("page-{i}.{language}"));
            fs::write(&source, block).map_err(|e| format!("{}: {e}", source.display()))?;
            // A program for builds with exceptions may say so by catching.
            for compiler in
                compilers.iter().filter(|compiler| compiler.is_cpp == is_cpp && !compiler.name.ends_with("-bare"))
            {
                let program = workshop.compile(compiler, &source, &format!("page-{i}"), &[])?;
                if compiler.links {
                    said(&mut Command::new(program), &format!("block {i} of {language} in docs/c.md"))?;
                }
            }
        }
    }
    Ok(())
}

/// A PPM photo for the examples.
fn photo(workshop: &Workshop) -> Outcome<PathBuf> {
    let (width, height) = (64, 48);
    let pixels = (0..height).flat_map(|y| (0..width).flat_map(move |x| [x as u8 * 2, y as u8 * 3, 120]));
    let bytes: Vec<u8> = format!("P6\n{width} {height}\n255\n").into_bytes().into_iter().chain(pixels).collect();
    let place = workshop.folder.join("photo.ppm");
    fs::write(&place, bytes).map_err(|e| format!("{}: {e}", place.display()))?;
    Ok(place)
}

/// Both examples say what the labels' shares are, and the same.
fn examples(workshop: &Workshop, programs: &[PathBuf]) -> Outcome {
    let photo = photo(workshop)?;
    let shares = |program: &PathBuf| {
        said(Command::new(program).arg(&photo).args(["sky", "grass"]), &program.display().to_string())
    };
    let all: Vec<String> = programs.iter().map(shares).collect::<Outcome<_>>()?;
    match all.iter().all(|said| *said == all[0] && said.contains('%')) {
        true => Ok(()),
        false => Err(format!("the examples say different shares: {all:?}")),
    }
}

/// A project that knows the library by find_package alone, from a folder to which the installed files were moved.
fn cmake(workshop: &Workshop, tools: &Tools) -> Outcome {
    let moved = workshop.folder.join("moved");
    let _ = fs::remove_dir_all(&moved);
    fs::create_dir_all(&moved).map_err(|e| format!("{}: {e}", moved.display()))?;
    said(
        Command::new("cp").args(["--archive", "--link", "--no-target-directory"]).arg(&workshop.prefix).arg(&moved),
        "cp",
    )?;
    let (source, build) = (package(workshop.places).join("examples"), workshop.folder.join("cmake"));
    let _ = fs::remove_dir_all(&build);
    let mut configure = Command::new(&tools.cmake);
    configure.arg("-S").arg(source).arg("-B").arg(&build).arg(format!("-DCMAKE_PREFIX_PATH={}", moved.display()));
    said(&mut configure, "cmake")?;
    said(Command::new(&tools.cmake).arg("--build").arg(&build), "cmake --build")?;
    let programs = ["segment_c", "segment_cpp", "segment_static"].map(|name| build.join(name));
    examples(workshop, &programs)
}

fn pkg_config(workshop: &Workshop) -> Outcome {
    let example = package(workshop.places).join("examples/segment.c");
    let library = workshop.prefix.join("lib");
    let flags = |more: &[&str]| -> Outcome<Vec<String>> {
        let mut command = Command::new("pkg-config");
        command
            .env("PKG_CONFIG_PATH", library.join("pkgconfig"))
            .args(["--cflags", "--libs"])
            .args(more)
            .arg("lseg_fast");
        Ok(said(&mut command, "pkg-config")?.split_whitespace().map(str::to_owned).collect())
    };
    let link = |name: &str, flags: &[String]| -> Outcome<PathBuf> {
        let program = workshop.folder.join(name);
        let mut gcc = Command::new("gcc");
        gcc.arg(&example).args(flags).arg("-o").arg(&program);
        said(gcc.arg(format!("-Wl,-rpath,{}", library.display())), "gcc")?;
        Ok(program)
    };
    let shared = link("pkg-shared", &flags(&[])?)?;
    // As its users write it: the archive by name, what it needs from --static.
    let archive: Vec<String> = flags(&["--static"])?
        .into_iter()
        .map(|flag| if flag == "-llseg_fast" { "-l:liblseg_fast.a".to_owned() } else { flag })
        .collect();
    let alone = link("pkg-static", &archive)?;
    let needs = said(Command::new("readelf").arg("-d").arg(&alone), "readelf")?;
    if needs.contains("lseg_fast") {
        return Err(format!("{} was to need no shared library of ours:\n{needs}", alone.display()));
    }
    examples(workshop, &[shared, alone])
}

/// A program that makes memory and streams itself, in the primary context of a GPU that there need not be.
fn cuda(workshop: &Workshop, gcc: &Compiler) -> Outcome {
    if nvcc::find_or_fetch(workshop.places).is_err() {
        eprintln!("left out: the library has no CUDA kernels");
        return Ok(());
    }
    library::build(workshop.places)?;
    let program = workshop.compile(gcc, &package(workshop.places).join("tests/cuda.c"), "cuda", &[])?;
    let (path, model) = (library::search_path(workshop.places)?, workshop.places.root.join(SMALL_MODEL));
    for schedule in 0..8 {
        let mut command = Command::new(&program);
        command.env("LD_LIBRARY_PATH", &path).env("VGPU_SCHED", schedule.to_string()).env("LSEG_TEST_MODEL", &model);
        said(&mut command, &format!("cuda, VGPU_SCHED={schedule}"))?;
    }
    let mut lost = Command::new(&program);
    lost.arg("lost")
        .env("LD_LIBRARY_PATH", &path)
        .env("LSEG_TEST_MODEL", &model)
        .env("VGPU_FAIL", "cuGraphLaunch:1:700!");
    said(&mut lost, "cuda lost").map(|_| ())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn the_small_model_is_there() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        assert!(root.join(SMALL_MODEL).is_file());
    }
}
