"""Which way imports go, where TensorFlow 1 may stand, and that nothing unsafe is called."""

import ast
import importlib
import re
import shutil
import subprocess
import sys
import zipfile
from functools import cache
from pathlib import Path

import pytest

from src.registry import (
    DATASETS,
    EXPORT_FORMATS,
    FIGURES,
    LAUNCHERS,
    NETWORKS,
    TRIPLET_STRATEGIES,
)

ROOT = Path(__file__).parent.parent
PROGRAMS = sorted(ROOT.glob("*.py"))
SRC = sorted((ROOT / "src").rglob("*.py"))
MODEL = sorted((ROOT / "model").rglob("*.py"))
ALL = [*PROGRAMS, *SRC, *MODEL]

# The losses by themselves: they import TensorFlow alone, and nothing that changes it.
LOSSES = {
    *("model/triplet_loss.py", "model/keras_losses.py"),
    *(
        path.relative_to(ROOT).as_posix()
        for path in MODEL
        if path.parent.name == "triplet_strategies"
    ),
    *(f"model/mining/{name}.py" for name in ("anchors", "blocks", "distances", "given_distances")),
    *(f"model/mining/{name}.py" for name in ("draws", "loss", "rectangle", "similarities")),
    "model/mining/sorting.py",
}
MAY_IMPORT_TENSORFLOW = {"model/estimator.py", *LOSSES}
MAY_USE_TENSORFLOW_1 = {
    *("model/estimator.py", "model/model_fn.py", "model/embedder.py", "model/loss_scaling.py"),
    *("model/optimizers.py", "model/moving_average.py", "model/whitening.py"),
    *("model/workers.py", "model/micro_batches.py", "model/mining/memory.py"),
    "model/exporting/onnx.py",  # frozen graphs
    "model/mining/sorting.py",  # the graph that is built, which has no other name
    *("model/training/disk.py", "model/training/build.py"),
    *(f"model/hooks/{name}.py" for name in ("alarms", "checkpoints", "progress", "report")),
    *(f"model/hooks/{name}.py" for name in ("memory", "stopping", "summaries", "together")),
}


def relative(path):
    return path.relative_to(ROOT).as_posix()


each = pytest.mark.parametrize("path", ALL, ids=relative)


def nodes(path):
    return _nodes(path.read_text(encoding="utf-8"))


@cache
def _nodes(text):
    return tuple(ast.walk(ast.parse(text)))


@cache
def imported(path):
    """Return the top-level packages that a file imports anywhere, also inside its functions."""
    packages = set()
    for node in nodes(path):
        if isinstance(node, ast.Import):
            packages |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{relative(path)}: a relative import"
            packages.add(node.module.split(".")[0])
        elif (
            isinstance(node, ast.Call)
            and ast.unparse(node.func).split(".")[-1] in {"import_module", "__import__"}
            and node.args
            and isinstance(node.args[0], ast.Constant)
        ):
            packages.add(str(node.args[0].value).split(".")[0])
    return packages


def module_name(path):
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def test_there_are_files_to_test():
    assert {"train.py", "src/params/schema.py", "model/estimator.py"} <= {
        relative(path) for path in ALL
    }


@pytest.mark.parametrize("path", SRC, ids=relative)
def test_src_imports_neither_tensorflow_nor_model_nor_programs(path):
    programs = {program.stem for program in PROGRAMS}
    forbidden = {"tensorflow", "tensorflow_estimator", "tf_keras", "keras", "model"} | programs
    assert not imported(path) & forbidden


@pytest.mark.parametrize("path", MODEL, ids=relative)
def test_model_imports_no_program(path):
    programs = {"train", "visualize", "compare", "sweep"} | {program.stem for program in PROGRAMS}
    assert not imported(path) & programs


# Imports go from a lower row to the same or an upper one.
SRC_ROWS = (
    {"errors", "registry", "printable", "distance", "seeds"},
    {"system"},
    {"params"},
    {"data"},
    {"datasets"},
    {"mining"},
    {"experiment"},
    {"embeddings"},
    {"drawing", "figures"},
    {"projector"},
    {"exporting"},
    {"sweeping"},
    {"searching"},
    {"comparing"},
    {"gallery"},
    {"download"},  # a program: python -m src.download
)
MODEL_ROWS = (
    {"estimator"},
    {"rows", "learning_rate", "loss_scaling", "unit_length"},
    {"augment", "backbone", "dropout"},
    {"mining"},
    {"distribution"},
    {"workers"},
    {"networks"},
    {"network"},
    {"triplet_strategies"},
    {"keras_losses"},
    {"triplet_loss"},
    {"moving_average"},
    {"pretrained", "split_metrics", "input_fn", "micro_batches", "optimizers", "views"},
    {"whitening"},
    {"model_fn"},
    {"hooks"},
    {"training"},
    {"embedder"},
    {"exporting"},
    {"exporter"},
)
ROWS = {"src": SRC_ROWS, "model": MODEL_ROWS}


def wing(path):
    return path.relative_to(ROOT).parts[1].removesuffix(".py")


def row(top, name):
    return next((number for number, names in enumerate(ROWS[top]) if name in names), None)


@cache
def imported_modules(path):
    """Return the modules of its own top folder that a file imports, also inside functions."""
    top = relative(path).split("/")[0]
    for_types = {
        ast.dump(inner)
        for node in nodes(path)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for inner in ast.walk(node)
        if isinstance(inner, ast.ImportFrom)
    }
    found = set()
    for node in nodes(path):
        if not isinstance(node, ast.ImportFrom) or node.module.split(".")[0] != top:
            continue
        if ast.dump(node) in for_types:
            continue
        for alias in node.names:
            inner = ROOT / node.module.replace(".", "/") / f"{alias.name}.py"
            found.add(f"{node.module}.{alias.name}" if inner.is_file() else node.module)
    return found


@pytest.mark.parametrize("path", [*SRC, *MODEL], ids=relative)
def test_imports_go_one_way(path):
    top = relative(path).split("/")[0]
    if wing(path) == "__init__":
        return
    own = row(top, wing(path))
    assert own is not None, f"{relative(path)}: a wing that has no row"
    for module in imported_modules(path):
        assert row(top, module.split(".")[1]) <= own, f"{relative(path)} imports {module}"


@pytest.mark.parametrize("files", [SRC, MODEL], ids=["src", "model"])
def test_no_circle_of_imports(files):
    graph = {module_name(path): imported_modules(path) for path in files}
    done = set()

    def visit(module, way):
        assert module not in way, " -> ".join([*way[way.index(module) :], module])
        if module not in done:
            for other in graph.get(module, ()):
                visit(other, [*way, module])
            done.add(module)

    for module in graph:
        visit(module, [])


def test_few_files_are_loose():
    loose = {path.name for path in (ROOT / "src").glob("*.py")} - {"__init__.py"}
    assert len(loose) <= 6


MAX_FILE_LINES, MAX_FUNCTION_LINES = 350, 50
REASON = re.compile(r"^ *# Long: \S.*\S\.$", re.MULTILINE)


def without_reason(path):
    """Return what is long in a file without a comment `# Long: reason.` of its own.

    The comment of a function stands in it, outside inner functions; that of a file in its first 30
    lines.
    """
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines()
    found = []
    if len(lines) > MAX_FILE_LINES and not REASON.search("\n".join(lines[:30])):
        found.append(f"{relative(path)}: {len(lines)} lines")
    for node in nodes(path):
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        length = node.end_lineno - node.lineno + 1
        own = set(range(node.lineno, node.end_lineno + 1))
        for inner in ast.walk(node):
            if inner is not node and isinstance(inner, (ast.FunctionDef, ast.AsyncFunctionDef)):
                own -= set(range(inner.lineno, inner.end_lineno + 1))
        body = "\n".join(lines[number - 1] for number in sorted(own))
        if length > MAX_FUNCTION_LINES and not REASON.search(body):
            found.append(f"{relative(path)}:{node.lineno}: {node.name}: {length} lines")
    return found


@each
def test_what_is_long_has_a_reason(path):
    assert without_reason(path) == []


def test_what_is_long_without_a_reason_is_found(tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    path = tmp_path / "x.py"
    reason = "# Long: it is so.\n"
    long = "def f():\n" + "    pass\n" * MAX_FUNCTION_LINES
    outer = f"def g():\n    def inner():\n        {reason}        pass\n" + "    pass\n" * 50

    def found(text):
        path.write_text(text)
        return without_reason(path)

    assert found(long) == ["x.py:1: f: 51 lines"]
    assert found(long.removesuffix("    pass\n")) == []
    assert found(long.replace("\n", f"\n    {reason}", 1)) == []
    assert found(long.replace("\n", "\n    # Long: \n", 1)) == ["x.py:1: f: 52 lines"]
    assert found(outer) == ["x.py:1: g: 54 lines"]  # the reason is another's
    assert found("pass\n" * MAX_FILE_LINES) == []
    assert found("pass\n" * (MAX_FILE_LINES + 1)) == ["x.py: 351 lines"]
    assert found(reason + "pass\n" * MAX_FILE_LINES) == []
    assert found("pass\n" * MAX_FILE_LINES + reason) == ["x.py: 351 lines"]


def test_tests_mirror_the_folders():
    tests = list((ROOT / "tests").rglob("test_*.py"))
    folders = {path.parent.name for path in tests} - {"tests"}
    assert folders <= {path.parent.name for path in SRC + MODEL} - {"src"}
    assert len({path.name for path in tests}) == len(tests)  # pytest imports them by their names


@pytest.mark.parametrize("path", PROGRAMS, ids=relative)
def test_programs_are_joined_by_files_not_by_imports(path):
    assert not imported(path) & {program.stem for program in PROGRAMS}


@each
def test_one_door_to_tensorflow(path):
    if relative(path) not in MAY_IMPORT_TENSORFLOW:
        packages = {"tensorflow", "tensorflow_estimator", "tf_keras", "keras"}
        assert not imported(path) & packages


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_the_losses_need_no_estimator(name):
    modules = imported_modules(ROOT / name)
    assert {module.replace(".", "/") + ".py" for module in modules} <= LOSSES | {
        "model/triplet_strategies.py"
    }


@each
def test_tensorflow_1_stands_where_it_belongs(path):
    if relative(path) not in MAY_USE_TENSORFLOW_1:
        assert not [
            node.lineno
            for node in nodes(path)
            if isinstance(node, ast.Attribute) and node.attr == "compat"
        ]
        assert "compat.v1" not in path.read_text(encoding="utf-8")


def test_importing_all_of_src_leaves_tensorflow_out():
    names = [module_name(path) for path in SRC]
    code = (
        "import importlib, sys\n"
        f"for name in {names}: importlib.import_module(name)\n"
        "print([name for name in sys.modules if name.split('.')[0] in "
        "('tensorflow', 'tensorflow_estimator', 'tf_keras', 'keras', 'model')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("registry", "folder"),
    [
        (DATASETS, "src/datasets"),
        (NETWORKS, "model/networks"),
        (TRIPLET_STRATEGIES, "model/triplet_strategies"),
        (EXPORT_FORMATS, "model/exporting"),
        (FIGURES, "src/figures"),
        (LAUNCHERS, "src/sweeping/launchers"),
    ],
    ids=["DATASETS", "NETWORKS", "STRATEGIES", "FORMATS", "FIGURES", "LAUNCHERS"],
)
def test_every_entry_of_a_registry_stands_in_a_file_of_its_name(registry, folder):
    for name, place in registry.items():
        module, function = place.split(":")
        path = ROOT / folder / f"{name}.py"
        assert module == module_name(path)
        assert path.is_file()
        defined = [node.name for node in nodes(path) if isinstance(node, ast.FunctionDef)]
        assert function in defined
    files = {path.stem for path in (ROOT / folder).glob("*.py")} - {"__init__"}
    assert files == set(registry), "a file that no name stands for"


def test_folders_of_code_are_packages():
    folders = {path.parent for top in ("src", "model") for path in (ROOT / top).rglob("*.py")}
    assert all((folder / "__init__.py").is_file() for folder in folders)


def test_what_pip_installs_has_requirements_and_no_module(tmp_path):
    """Nobody's environment gets packages called `model` and `src`; the extras are installed."""
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path)
    for top in ("src", "model", "benchmarks", "tests"):
        (tmp_path / top).mkdir()
        (tmp_path / top / "__init__.py").touch()
    (tmp_path / "train.py").touch()
    code = "from setuptools.build_meta import build_wheel; build_wheel('wheels')"
    command = [sys.executable, "-c", code]
    subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    (wheel,) = (tmp_path / "wheels").glob("tripletboard-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (metadata,) = (name for name in names if name.endswith(".dist-info/METADATA"))
        said = archive.read(metadata).decode()
    assert {name.split("/")[0] for name in names} == {metadata.split("/")[0]}
    assert re.search("^Summary: .*; run it from a clone: ", said, re.MULTILINE)
    assert re.search("^Requires-Dist: tensorflow<", said, re.MULTILINE)
    assert "Provides-Extra: search" in said


def test_no_other_folder_is_a_package():
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert packages == {"src", "model", "benchmarks"}


@each
def test_nothing_runs_code_that_it_reads(path):
    run_code = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal"}
    if relative(path) == "src/data/torch_tensors.py":
        # Its own unpickler refuses every name but four, and nothing else of pickle is used.
        run_code.remove("pickle")
        used = re.findall(r"\bpickle\b[.\w]*", path.read_text().partition('"""\n\n')[2])
        assert sorted(set(used) - {"pickle"}) == ["pickle.Unpickler"]
        assert "def find_class" in path.read_text()
    assert not imported(path) & run_code
    assert not imported(path) & {"shelve", "code"}
    for node in nodes(path):
        if not isinstance(node, ast.Call):
            continue
        function = ast.unparse(node.func)
        where = f"{relative(path)}:{node.lineno}: {function}"
        assert function not in {"eval", "exec", "compile", "builtins.eval", "builtins.exec"}, where
        assert function not in {"yaml.load", "yaml.unsafe_load", "yaml.full_load"}, where
        assert function not in {"os.system", "os.popen"}, where
        for keyword in node.keywords:
            value = keyword.value.value if isinstance(keyword.value, ast.Constant) else None
            assert keyword.arg not in {"allow_pickle", "shell"} or value is False, where


@each
def test_no_bare_except(path):
    assert not [
        node.lineno
        for node in nodes(path)
        if isinstance(node, ast.ExceptHandler) and node.type is None
    ]


@each
def test_archives_are_not_unpacked_to_disk(path):
    """Their members' names are anyone's: read in place, none can leave its folder."""
    unpacking = {"extract", "extractall", "unpack_archive", "_extract_member"}
    for node in nodes(path):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            where = f"{relative(path)}:{node.lineno}: {node.func.attr}"
            assert node.func.attr not in unpacking, where


@each
def test_numpy_files_are_read_without_pickle(path):
    for node in nodes(path):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in {"np.load", "numpy.load"}:
            where = f"{relative(path)}:{node.lineno}"
            keywords = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
            assert keywords.get("allow_pickle") == "False", where  # said, not left to a default


@each
def test_addresses_are_https(path):
    """In all strings that are no docstrings, but for this machine and a name of a format."""
    tree = list(nodes(path))
    docstrings = {
        id(node.body[0].value)
        for node in tree
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef))
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    strings = [
        node.value
        for node in tree
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and id(node) not in docstrings
    ]
    elsewhere = [re.sub(r"http://(127\.0\.0\.1|$)", "", text) for text in strings]
    plain = [text for text in elsewhere if "http://" in text or "ftp://" in text]
    assert set(plain) <= {"http://json-schema.org/draft-07/schema#"}


@pytest.mark.parametrize("dataset", DATASETS)
def test_what_is_downloaded_has_checksums(dataset):
    module = importlib.import_module(DATASETS[dataset].partition(":")[0])
    for remote in getattr(module, "REMOTE_FILES", ()):
        assert remote.url.startswith("https://")
        assert re.fullmatch("[0-9a-f]{64}", remote.content_sha256 or remote.sha256)
        assert remote.size > 0


def test_tensorboard_listens_on_this_machine_alone():
    from src.projector.tensorboard import HOST

    assert HOST == "127.0.0.1"
    for path in [*ALL, ROOT / "Makefile", *ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]:
        assert not re.search(r"--bind_all|0\.0\.0\.0", path.read_text(encoding="utf-8")), path


def test_dependencies_are_locked_with_hashes():
    for path in ROOT.glob("requirements*.lock"):
        text = path.read_text()
        requirements = re.split(r"\n(?=[a-z])", re.sub(r"(?m)^ *#.*\n", "", text).strip())
        assert len(requirements) > 20
        for requirement in requirements:
            assert "==" in requirement and "--hash=sha256:" in requirement, requirement
