"""What the checks on compiled kernels would find, on the texts of ptxas and cuobjdump."""

import pytest

from . import sass

REPORT = """
ptxas info    : Compiling entry function '{name}' for 'sm_90'
ptxas info    : Function properties for {name}
    {stack} bytes stack frame, {stores} bytes spill stores, {loads} bytes spill loads
ptxas info    : Used 64 registers, used 1 barriers, 1792 bytes smem
"""
WIDE = ["LDG.E.128 R4, desc[UR4][R2.64]", "STG.E.128 desc[UR4][R2.64], R4"]


def kernel(name, instructions, stack=0, stores=0, loads=0):
    report = REPORT.format(name="mangled", stack=stack, stores=stores, loads=loads)
    found = sass.resources(report)["mangled"]
    lines = [
        f"        /*{16 * i:04x}*/    {text} ;   /* 0x0 */" for i, text in enumerate(instructions)
    ]
    found.code = sass.instructions("\t\tFunction : mangled\n" + "\n".join(lines))["mangled"]
    found.name = name
    return found


def in_a_loop(texts):
    return ["MOV R1, R2", *texts, "@!P0 BRA 0x10", "EXIT"]


PANEL = ["FFMA R1, R2, R3, R1"] * sass.PANEL
DOUBLE_PANEL = ["DFMA R2, R4, R6, R2"] * sass.PANEL


def test_names_are_short():
    long = "void kdops::(anonymous namespace)::k<__half, kdops::Loss<(kdops::Scaling)0> >(kdops::J)"
    assert sass.short(long) == "k<half, Loss<(Scaling)0> >"


def test_resources_are_read():
    found = kernel("logit_rows<float, 4, true>", WIDE, 8, 4, 12)
    assert (found.registers, found.shared, found.stack, found.spills) == (64, 1792, 8, 16)
    assert found.arch == "sm_90" and found.arguments == ["float", "4", "true"]


@pytest.mark.parametrize(
    ("name", "instructions"),
    [
        ("logit_rows<float, 4, true>", WIDE),
        ("logit_rows<float, 1, true>", ["LDG.E R4, desc[UR4][R2.64]"]),
        ("logit_rows<double, 2, true>", [*WIDE, "DFMA R2, R4, R6, R2"]),
        ("build_maps<float>", [*in_a_loop(PANEL), "DADD R2, R4, R6"]),
        ("measure_features<float>", ["VIADDMNMX R16, R16, R17, 0xffffff88, !PT"]),
    ],
)
def test_sound_kernels(name, instructions):
    assert sass.faults(kernel(name, instructions)) == []


@pytest.mark.parametrize(
    ("name", "instructions", "fault"),
    [
        ("logit_rows<float, 4, true>", WIDE[1:], "no wide load"),
        ("logit_rows<float, 4, true>", WIDE[:1], "no wide store"),
        ("logit_rows<float, 1, true>", ["LDL R1, [R2]"], "local memory"),
        ("logit_rows<half, 1, true>", ["DFMA R2, R4, R6, R2"], "float64"),
        ("measure_features<float>", ["@!P0 F2F.F64.F32 R16, R4"], "float64"),
        ("measure_features<float>", ["MUFU.RCP64H R16, R4"], "float64"),
        ("build_maps<float>", in_a_loop([*PANEL, "DADD R2, R4, R6"]), "in the loop over features"),
        ("build_maps<float>", in_a_loop(DOUBLE_PANEL), "in the loop over features"),
        ("build_maps<float>", ["EXIT"], "no loop over features"),
        ("measure_features<float>", [], "no code"),
    ],
)
def test_faults_are_found(name, instructions, fault):
    (found,) = sass.faults(kernel(name, instructions))
    assert fault in found


@pytest.mark.parametrize("spilled", [{"stack": 8}, {"stores": 4}, {"loads": 4}])
def test_spills_are_found(spilled):
    (found,) = sass.faults(kernel("k<float>", ["EXIT"], **spilled))
    assert "spills" in found


def test_every_type_has_packs():
    stems, types = sass.PACKED, ("float", "double", "half", "bfloat16")
    found = [kernel(f"{stem}<{s}, 2>", ["EXIT"]) for stem in stems for s in types]
    assert sass.missing_packs(found) == []
    assert len(sass.missing_packs(found[1:])) == 1
