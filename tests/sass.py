"""What compiled kernels must look like: their resources as ptxas reports them, and their SASS."""

import re
from dataclasses import dataclass, field

DOUBLE = re.compile(r"\b(D(ADD|MUL|FMA|SETP|MNMX|MMA)|MUFU\.\w*64H?|[FI]2[FI]\b.*\.F64)")
LOCAL = re.compile(r"(LDL|STL)\b")
WIDE = {"load": re.compile(r"LDG\.\S*128"), "store": re.compile(r"STG\.\S*128")}
ARITHMETIC = re.compile(r"\b[FD]FMA\b")
# Kernels over tiles, which have a loop with the multiply-adds of 4 x 4 sums over a panel's depths.
TILED = ("build_maps", "relation_gradients", "stream_values", "stream_gradients")
TILED += ("row_gradients", "triplet_gradients", "map_gradient", "cosine_gradient")
PANEL = 64

# Kernels of float features that compute in float64 too, outside of their loops over features.
FLOAT64_BY_DESIGN = {
    "build_maps": "the statistics behind the normalisers; the maps of the angle loss",
    "relation_values": "moments cancel",
    "relation_value": "adds up the parts of relation_values",
    "relation_gradients": "the normalisers' gradients, once a block",
    "row_values": "the rows' normalisers; moments cancel",
    "row_gradients": "adds up the loss, in the first block",
    "stream_values": "moments cancel",
    "stream_gradients": "the normalisers' gradients, once a block",
    "compare_triplets": "maps are float64, and so are triplets of uneven distances",
    "triplet_loss": "adds up the parts of compare_triplets",
    "triplet_gradients": "adds up the loss, in the first block",
    "map_moments": "moments cancel",
    "map_values": "the normaliser",
    "map_gradient": "the normaliser's gradient, once a block",
    "write_cosines": "maps are float64: cosines cancel",
    "cosine_weights": "maps are float64: cosines cancel",
}
# Of which template argument a kernel's packs are; and whether it writes them.
PACKED = {
    "logit_rows": (1, ("load", "store")),
    "chunk_sums": (1, ("load",)),
    "chunk_gradients": (1, ("load", "store")),
    "scale_rows": (1, ("load", "store")),
    "mutual_rows": (1, ("load",)),  # stores of eight halves are split on sm_80 and sm_90
    "mixture_rows": (1, ("load",)),
}


@dataclass
class Kernel:
    """One kernel on one architecture; name is demangled, without arguments and namespaces."""

    name: str
    arch: str
    registers: int = 0
    shared: int = 0
    stack: int = 0
    spills: int = 0
    code: list[tuple[int, str]] = field(default_factory=list)  # address, instruction

    @property
    def stem(self) -> str:
        return self.name.split("<")[0]

    @property
    def arguments(self) -> list[str]:
        return re.split(r",\s*", self.name[len(self.stem) + 1 : -1])

    @property
    def double(self) -> bool:
        return "double" in self.arguments


def short(demangled: str) -> str:
    """kernel<float, 4> of void kdops::(anonymous namespace)::kernel<float, 4>(Job<float>)."""
    plain = re.sub(
        r"kdops::|\(anonymous namespace\)::|^void |__nv_(?=bfloat16)|__(?=half)", "", demangled
    )
    depth = 0
    for i, c in enumerate(plain):
        depth += {"<": 1, ">": -1}.get(c, 0)
        if c == "(" and depth == 0:
            return plain[:i]
    return plain


def resources(report: str) -> dict[str, Kernel]:
    """By the mangled name, from what ptxas -v writes."""
    kernels, name = {}, ""
    for line in report.splitlines():
        if found := re.search(r"Compiling entry function '(\S+)' for '(\S+)'", line):
            name = found[1]
            kernels[name] = Kernel(name, found[2])
        elif not name:
            continue
        elif found := re.search(r"(\d+) bytes stack frame, (\d+) bytes spill.*, (\d+) bytes", line):
            kernels[name].stack = int(found[1])
            kernels[name].spills = int(found[2]) + int(found[3])
        elif found := re.search(r"Used (\d+) registers", line):
            kernels[name].registers = int(found[1])
            shared = re.search(r"(\d+) bytes smem", line)
            kernels[name].shared = int(shared[1]) if shared else 0
            name = ""
    return kernels


def instructions(sass: str) -> dict[str, list[tuple[int, str]]]:
    """By the mangled name, from what cuobjdump -sass writes."""
    functions, code = {}, []
    for line in sass.splitlines():
        if found := re.match(r"\s*Function : (\S+)", line):
            code = functions[found[1]] = []
        elif found := re.match(r"\s*/\*([0-9a-f]{4,})\*/\s+(.*?);", line):
            code.append((int(found[1], 16), found[2].strip()))
    return functions


def loops(code) -> list[list[str]]:
    """The instructions between every branch back and its target."""
    found = []
    for at, text in code:
        branch = re.search(r"\bBRA\S*\s+(?:\S+,\s*)?0x([0-9a-f]+)", text)
        if branch and int(branch[1], 16) < at:  # a branch to itself pads the end
            begin = int(branch[1], 16)
            found.append((begin, at))
    return [[text for at, text in code if begin <= at <= end] for begin, end in found]


def panel_loops(code) -> list[list[str]]:
    """The innermost loops that hold a panel's multiply-adds."""
    heavy = [body for body in loops(code) if sum(map(is_arithmetic, body)) >= PANEL]
    return [
        body for body in heavy if not any(len(o) < len(body) and set(o) <= set(body) for o in heavy)
    ]


def is_arithmetic(text: str) -> bool:
    return ARITHMETIC.search(text) is not None


def faults(kernel: Kernel) -> list[str]:
    """What is wrong with a kernel; nothing, if all is well."""
    texts = [text for _, text in kernel.code]
    found = []
    if kernel.spills or kernel.stack:
        found.append(f"{kernel.spills} bytes of spills, {kernel.stack} of stack")
    if any(LOCAL.search(text) for text in texts):
        found.append("local memory")
    if not texts:
        found.append("no code")
    if not kernel.double:
        doubles = [text for text in texts if DOUBLE.search(text)]
        if doubles and kernel.stem not in FLOAT64_BY_DESIGN:
            found.append(f"float64 arithmetic: {doubles[0]}")
        bodies = panel_loops(kernel.code) if kernel.stem in TILED else []
        if kernel.stem in TILED and not bodies:
            found.append("no loop over features")
        inside = [text for body in bodies for text in body if DOUBLE.search(text)]
        if inside:
            found.append(f"float64 arithmetic in the loop over features: {inside[0]}")
    if kernel.stem in PACKED:
        at, kinds = PACKED[kernel.stem]
        if kernel.arguments[at] != "1":
            found += [f"no wide {k}" for k in kinds if not any(map(WIDE[k].search, texts))]
    return found


def missing_packs(kernels: list[Kernel]) -> list[str]:
    """Of which type a row kernel has no variant with packs."""
    packed = {
        (k.stem, k.arguments[0]) for k in kernels if k.stem in PACKED and k.arguments[1] != "1"
    }
    wanted = {(stem, s) for stem in PACKED for s in ("float", "double", "half", "bfloat16")}
    return [f"{stem}<{s}>: no variant with packs" for stem, s in sorted(wanted - packed)]
