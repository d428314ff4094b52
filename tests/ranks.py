"""Losses with gather='all' on the ranks of spawned processes, and on one process with all rows.

A case is a loss with its options; each runs on every batch of BATCHES. A process runs all of them:
spawning costs seconds.
"""

import datetime
from dataclasses import dataclass, field

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

import kdops
from kdops.distributed import global_batch

TIMEOUT = 60


@dataclass(frozen=True)
class Loss:
    name: str
    options: dict = field(default_factory=dict)
    students: int = 1  # a list of them, if more
    kind: str = "map"  # "pair": two layers a side; "flow": InformationFlowLoss

    def __str__(self):
        options = "-".join(f"{name}={value}" for name, value in self.options.items())
        return f"{self.name}-{self.students}-{options}"

    def __call__(self, students, teachers, **more):
        options = {**self.options, **more}
        if self.kind == "flow":
            return getattr(kdops.nn, self.name)(**options)(students, teachers, [0.5, 2.0])
        if self.kind == "pair":
            return getattr(kdops, self.name)(tuple(students), tuple(teachers), **options)
        student = students[0] if self.students == 1 else students
        if hasattr(kdops, self.name):
            return getattr(kdops, self.name)(student, teachers[0], **options)
        return getattr(kdops.nn, self.name)(**options)(student, teachers[0])


def _losses():
    for name in ("rkd_distance_loss", "rkd_angle_loss", "irg_edge_loss"):
        for reduction in ("mean", "sum", "none"):
            yield Loss(name, {"reduction": reduction}, students=1 + 2 * (reduction == "sum"))
        yield Loss(name, {"teacher_grad": True}, students=2)
    for name in ("rkd_distance_loss", "rkd_angle_loss"):
        yield Loss(name, {"eps": 4.0, "reduction": "sum"})
    for kernel in ("rbf", "bilinear", "mmd"):
        yield Loss("cckd_loss", {"kernel": kernel, "teacher_grad": kernel == "rbf"})
        yield Loss("cckd_loss", {"kernel": kernel, "normalize": False, "reduction": "sum"})
    yield Loss("cckd_loss", {"order": None, "reduction": "none"})
    for kernel in ("cosine", "student_t"):
        for divergence in ("kl", "jeffreys"):
            options = {"kernel": kernel, "divergence": divergence}
            yield Loss("pkt_loss", options)
            yield Loss("pkt_loss", {**options, "include_self": False, "reduction": "sum"})
            yield Loss("pkt_loss", {**options, "eps": 1e-3, "reduction": "mean"})
    yield Loss("pkt_loss", {"reduction": "none", "teacher_grad": True})
    for reduction in ("mean", "batchmean", "sum", "none"):
        yield Loss("sp_loss", {"reduction": reduction})
    yield Loss("sp_loss", {"norm": 1, "teacher_grad": True})
    for part in ("vertex", "edge"):
        for reduction in ("mean", "sum"):
            options = {"part": part, "reduction": reduction, "teacher_grad": reduction == "sum"}
            yield Loss("irg_transform_loss", options, students=2, kind="pair")
    for module in ("RKDDistanceLoss", "RKDAngleLoss", "IRGLoss", "CCKDLoss", "PKTLoss", "SPLoss"):
        yield Loss(module)
    yield Loss("RKDLoss", students=2)
    yield Loss("InformationFlowLoss", students=2, kind="flow")


LOSSES = list(_losses())


@dataclass(frozen=True)
class Batch:
    rows: tuple[int, ...]  # of each rank
    distribution: str = "randn"
    dtype: torch.dtype = torch.float64

    def __str__(self):
        rows = "+".join(map(str, self.rows))
        return f"{rows}-{self.distribution}-{str(self.dtype)[6:]}"

    def features(self, loss: Loss) -> tuple[list, list]:
        """All rows of the students and of the teachers."""
        count = loss.students if loss.kind != "map" else 1
        g = torch.Generator().manual_seed(len(self.rows))

        def make(columns):
            if self.distribution == "corners":  # many pairs have the largest distance
                corners = torch.cat([torch.eye(2), -torch.eye(2)]).double()
                x = corners[torch.randint(4, (sum(self.rows),), generator=g)]
            else:
                x = torch.randn(sum(self.rows), columns, generator=g, dtype=torch.float64)
            if self.distribution == "duplicates":  # on one rank, and on two; and a row of zeros
                x[1] = x[-1] = x[0]
                x[2] = 0
            if self.distribution == "nan":
                x[1, 0] = torch.nan
            return (x * 1e25 if self.distribution == "big" else x).to(self.dtype)

        students = [make(5 if loss.kind == "pair" else 3 + i) for i in range(loss.students)]
        return students, [make(6) for _ in range(count)]

    def mine(self, rank: int) -> slice:
        return slice(sum(self.rows[:rank]), sum(self.rows[: rank + 1]))


def result(loss: Loss, batch: Batch, rank: int | None = None):
    """Value and gradients of a rank's rows with gather='all', or of all rows in this process."""
    mine = slice(None) if rank is None else batch.mine(rank)
    features = [[x[mine].clone().requires_grad_() for x in side] for side in batch.features(loss)]
    value = loss(*features, **({} if rank is None else {"gather": "all"}))
    rows = sum(batch.rows)
    weights = torch.linspace(-1, 2, rows ** max(1, value.dim()), dtype=value.dtype)
    weights = weights.view((rows,) * value.dim())[mine] if value.dim() else torch.tensor(1.0)
    value.backward(weights.to(value))
    return value.detach(), [x.grad for side in features for x in side]


def _rank(rank: int, world: int, path: str, work, arguments):
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        init_method=f"file://{path}/store",
        rank=rank,
        world_size=world,
        timeout=datetime.timedelta(seconds=TIMEOUT),
    )
    torch.save(work(rank, *arguments), f"{path}/{rank}")
    dist.destroy_process_group()


def on_ranks(world: int, path, work, *arguments) -> list:
    """What work(rank, *arguments) returns on each rank of a spawned gloo group."""
    context = mp.spawn(_rank, (world, str(path), work, arguments), nprocs=world, join=False)
    for _ in range(world):
        if context.join(timeout=2 * TIMEOUT):
            break
    return [torch.load(f"{path}/{rank}", weights_only=True) for rank in range(world)]


def all_results(rank: int, batches: tuple[Batch, ...], chunk: int) -> dict:
    """result of every loss and batch, with few rows of a map at a time."""
    global_batch.CHUNK = chunk
    results = {f"{batch} {loss}": result(loss, batch, rank) for batch in batches for loss in LOSSES}
    alone = of_a_group(rank, batches[0]) if dist.get_world_size() > 2 else {}
    return {
        **results,
        **alone,
        **misfits(rank),
        **trained(rank),
        **in_autocast(rank),
        **twice(rank),
    }


def misfits(rank: int) -> dict:
    """The errors of calls that differ between ranks; the ranks go on together."""
    x = torch.randn(3, 4, requires_grad=True)
    calls = {
        "columns": lambda: (x if rank else x[:, 1:], x, {}),
        "dtype": lambda: (x, x if rank else x.double(), {}),
        "gradient": lambda: (x.detach() if rank else x, x, {}),
        "students": lambda: ([x] * (1 + rank), x, {}),
        "options": lambda: (x, x, {"eps": float(rank)}),
    }
    errors = {}
    for name, call in calls.items():
        student, teacher, options = call()
        try:
            kdops.rkd_distance_loss(student, teacher, **options, gather="all")
        except ValueError as error:
            errors[name] = str(error)
    return errors


def of_a_group(rank: int, batch: Batch) -> dict:
    """A loss over the first and the last rank, which the other one does not call."""
    members = (0, dist.get_world_size() - 1)
    group = dist.new_group(members)
    if rank not in members:
        try:
            kdops.sp_loss(torch.ones(2, 2), torch.ones(2, 2), gather=group)
        except ValueError as error:
            return {"outside": str(error)}
    (student,), (teacher,) = (side for side in batch.features(Loss("sp_loss")))
    mine = batch.mine(rank)
    return {"group": kdops.sp_loss(student[mine], teacher[mine], gather=group)}


def objective(student, teacher, gather=None):
    relational = kdops.nn.RKDLoss(1.0, 2.0, gather=gather)(student, teacher)
    return relational + kdops.pkt_loss(student, teacher, gather=gather)


def linear() -> torch.nn.Linear:
    torch.manual_seed(0)
    return torch.nn.Linear(6, 5, dtype=torch.float64)


def samples(world: int) -> tuple:
    """Inputs, teacher's features, and the rows of each rank."""
    g = torch.Generator().manual_seed(0)
    return (
        torch.randn(2 + 3 * world, 6, generator=g, dtype=torch.float64),
        torch.randn(2 + 3 * world, 7, generator=g, dtype=torch.float64),
        Batch((5, *(3,) * (world - 1))),
    )


def trained(rank: int) -> dict:
    """The parameters' gradients of a model under DistributedDataParallel."""
    model = torch.nn.parallel.DistributedDataParallel(linear())
    x, teacher, batch = samples(dist.get_world_size())
    mine = batch.mine(rank)
    objective(model(x[mine]), teacher[mine], "all").backward()
    return {"parameters": [p.grad for p in model.parameters()]}


def in_autocast(rank: int) -> dict:
    """Of losses with products, whether autocast changes nothing."""
    student, teacher = (torch.randn(3, 4, requires_grad=True) for _ in range(2))
    same = []
    for function in (kdops.rkd_angle_loss, kdops.cckd_loss, kdops.sp_loss):
        plain = function(student, teacher, gather="all")
        with torch.autocast("cpu", torch.bfloat16):
            same.append(torch.equal(function(student, teacher, gather="all"), plain))
    return {"autocast": same}


def penalty(function, student, teacher, **options):
    """The gradient of the square of the gradient."""
    student = student.clone().requires_grad_()
    value = function(student, teacher, **options)
    (gradient,) = torch.autograd.grad(value, student, create_graph=True)
    return torch.autograd.grad(gradient.square().sum(), student)[0]


def twice(rank: int) -> dict:
    """Second derivatives: of inner products, and the error of distances."""
    x, teacher, batch = samples(dist.get_world_size())
    mine = batch.mine(rank)
    results = {"twice": penalty(kdops.sp_loss, x[mine], teacher[mine], gather="all")}
    try:
        penalty(kdops.irg_edge_loss, x[mine], teacher[mine], gather="all")
    except RuntimeError as error:
        results["not twice"] = str(error)
    return results
