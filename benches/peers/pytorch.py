"""The runner of PyTorch: f32, TF32 off. Speaks the protocol of src/lib.rs. Usage: python pytorch.py [cpu|cuda]"""

import json
import os
import sys
import time

try:
    import torch
    import torch.nn.functional as F
    from torch import nn
except (ImportError, OSError, ValueError) as error:  # the last two: a library of its own is missing
    sys.exit(f"pytorch.py: PyTorch cannot be imported: {error}")

CLASSES = 10
CHUNK_SECONDS = 0.05
DEVICE = torch.device(sys.argv[1] if len(sys.argv) > 1 else "cpu")


def now():
    """The time when the device has done all it was given."""
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def unit(inputs, outputs, kernel, stride):
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs))


class Block(nn.Module):
    """Two convolutions, added to what they were given; shortcuts of option A, or B with `project`."""

    def __init__(self, inputs, outputs, stride, project):
        super().__init__()
        self.first = unit(inputs, outputs, 3, stride)
        self.second = unit(outputs, outputs, 3, 1)
        changes = stride > 1 or inputs != outputs
        self.projection = unit(inputs, outputs, 1, stride) if project and changes else None
        self.padding = (outputs - inputs) // 2 if changes else 0

    def forward(self, x):
        y = self.second(F.relu(self.first(x)))
        if self.projection is not None:
            x = self.projection(x)
        elif self.padding:
            x = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.padding, self.padding))
        return F.relu(y + x)


class ResNet(nn.Module):
    def __init__(self, stem, stages, project):
        super().__init__()
        blocks, channels = [], stages[0][0]
        for stage, (width, count) in enumerate(stages):
            for index in range(count):
                stride = 2 if stage > 0 and index == 0 else 1
                blocks.append(Block(channels, width, stride, project))
                channels = width
        self.stem, self.blocks = stem, nn.Sequential(*blocks)
        self.head = nn.Linear(channels, CLASSES)

    def forward(self, x):
        x = self.blocks(self.stem(x))
        return self.head(F.adaptive_avg_pool2d(x, 1).flatten(1))


def network(name):
    if name == "resnet20":
        stem = nn.Sequential(unit(3, 16, 3, 1), nn.ReLU())
        return ResNet(stem, [(16, 3), (32, 3), (64, 3)], False)
    if name == "resnet18":
        stem = nn.Sequential(unit(3, 64, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1))
        return ResNet(stem, [(64, 2), (128, 2), (256, 2), (512, 2)], True)
    raise ValueError(f"no network {name}")


class Training:
    def __init__(self, case):
        self.network = network(case["network"]).to(DEVICE).train()
        self.optimizer = torch.optim.SGD(
            self.network.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4
        )
        batch, side = case["batch"], case["side"]
        self.images = torch.randn(batch, 3, side, side)
        self.labels = torch.randint(CLASSES, (batch,))
        if DEVICE.type == "cuda":
            self.images, self.labels = self.images.pin_memory(), self.labels.pin_memory()
        self.loss = None
        self.parameters = sum(parameter.numel() for parameter in self.network.parameters())

    def run(self, times):
        start = now()
        for _ in range(times):
            # On the CPU a copy stands for the upload.
            images = self.images.to(DEVICE, non_blocking=True, copy=True)
            labels = self.labels.to(DEVICE, non_blocking=True, copy=True)
            self.optimizer.zero_grad(set_to_none=True)
            logits = self.network(images)
            loss = F.cross_entropy(logits, labels)
            loss.backward()
            self.optimizer.step()
            (logits.argmax(1) == labels).sum().item()
            self.loss = loss.item()
        return now() - start


class Convolution:
    loss = parameters = None

    def __init__(self, case):
        batch, channels, side = case["batch"], case["channels"], case["side"]
        outputs, kernel, groups = case["outputs"], case["kernel"], case["groups"]
        x = torch.randn(batch, channels, side, side, device=DEVICE)
        weight = torch.randn(outputs, channels // groups, kernel, kernel, device=DEVICE)
        gradient = torch.randn(batch, outputs, side, side, device=DEVICE)
        padding = kernel // 2
        one, shift = [1, 1], [padding, padding]
        backward = torch.ops.aten.convolution_backward
        mask = [case["pass"] == "input_gradient", case["pass"] == "weight_gradient", False]
        if case["pass"] == "forward":
            self.once = lambda: F.conv2d(x, weight, None, 1, padding, 1, groups)
        else:
            self.once = lambda: backward(
                gradient, x, weight, None, one, shift, one, False, [0, 0], groups, mask
            )

    def run(self, times):
        with torch.no_grad():
            start = now()
            for _ in range(times):
                self.once()
            return now() - start


def prepare(case):
    start = time.perf_counter()
    (kind, settings), = case.items()
    subject = {"training": Training, "convolution": Convolution}[kind](settings)
    subject.run(1)
    first = time.perf_counter() - start
    subject.run(1)
    return subject, {"first_seconds": first, "parameters": subject.parameters}


def sample(subject, least):
    """Like `sample` of src/serve.rs: chunks grow, and only those of full length count."""
    start, runs, seconds, chunk = time.perf_counter(), 0, 0.0, 1
    while runs == 0 or time.perf_counter() - start < least:
        taken = subject.run(chunk)
        if taken < CHUNK_SECONDS and time.perf_counter() - start < least:
            factor = min(max(1.2 * CHUNK_SECONDS / max(taken, 1e-9), 1.5), 10.0)
            chunk = int(chunk * factor) + 1
            continue
        runs += chunk
        seconds += taken
    return {"seconds": seconds / runs, "loss": subject.loss}


def say(line):
    print(json.dumps(line), flush=True)


def hello():
    settings = "f32, TF32 off"
    if DEVICE.type == "cuda":
        device = torch.cuda.get_device_name(DEVICE)
        settings += f", cuDNN {torch.backends.cudnn.version()} tuned"
    else:
        device = f"CPU ({torch.backends.cpu.get_cpu_capability()})"
        settings += f", {torch.get_num_threads()} threads"
    kind = DEVICE.type.upper()
    return {"name": f"PyTorch {torch.__version__} {kind}", "device": device, "settings": settings}


def main():
    torch.set_num_threads(os.cpu_count())
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = True
    torch.manual_seed(1)
    if DEVICE.type == "cuda" and not torch.cuda.is_available():
        sys.exit("pytorch.py: no CUDA device")
    say(hello())
    subject = None
    for line in sys.stdin:
        (request, argument), = json.loads(line).items()
        try:
            if request == "prepare":
                subject = None
                subject, ready = prepare(argument)
                say({"ready": ready})
            elif subject is None:
                say({"failed": "nothing was prepared"})
            else:
                say({"sample": sample(subject, argument)})
        except (RuntimeError, ValueError) as error:
            say({"failed": str(error)})


if __name__ == "__main__":
    main()
