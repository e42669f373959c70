from __future__ import annotations

import copy

import torch
from torch import nn

from modelguard.datasets import GaussianNoise, ImageSet, Patches
from modelguard.networks import DnCNN
from modelguard.training import TrainConfig, fit, imitation, teacher_answer


def test_a_student_learns_its_teachers_answers(tiny: nn.Module, photos: ImageSet) -> None:
    teacher, student = tiny.train(), DnCNN(depth=3, width=8, batch_norm=False)
    before = copy.deepcopy(teacher.state_dict())
    objective = imitation(teacher, nn.functional.mse_loss)
    data = Patches(photos, GaussianNoise(25), 16, 2**31)

    def far() -> float:
        inputs = torch.stack([data[number][0] for number in range(5000, 5016)])
        with torch.no_grad():
            return float(nn.functional.mse_loss(student(inputs), teacher_answer(teacher, inputs)))

    start = far()
    fit(student, data, objective, TrainConfig(steps=60, batch=4, lr=1e-2, warmup=5))
    assert far() < 0.3 * start
    assert not teacher.training
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())


def test_a_teacher_is_asked_without_gradients(tiny: nn.Module) -> None:
    image = torch.rand(1, 1, 16, 16)
    answer = teacher_answer(tiny.eval(), image)
    assert answer.dtype == torch.float32
    assert not answer.requires_grad
    torch.testing.assert_close(answer, tiny(image).detach(), atol=0.05, rtol=0)
