"""The loop itself: step, log, state; at the end of an epoch validate, last, best. It can stop and go on anywhere."""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import torch
from torch import nn

from dualpath.data.batches import Course
from dualpath.data.checking.known import Known, read_known, write_known
from dualpath.data.clips import KeyedClips, Lost, TrainClips
from dualpath.data.kept import KeptClips
from dualpath.data.loader import TrainBatch
from dualpath.data.manifest import Manifest, Video
from dualpath.data.replaced import Seen, look_at_all, why_replaced
from dualpath.data.steady import steady_train
from dualpath.data.watched import WorkersLost
from dualpath.engine.baseline import describe_baseline, judge, measure_baseline, start_classifier
from dualpath.engine.checkpoint import ModelSpec, mend_checkpoint, save_checkpoint
from dualpath.engine.config import RunConfig
from dualpath.engine.evaluate import Evaluation, evaluate
from dualpath.engine.guards import LossWatch, few_videos, is_as_good, one_class_for_all, uneven_classes
from dualpath.engine.learner import Learner, Micro, NotFiniteError, balanced_weights
from dualpath.engine.log import Log
from dualpath.engine.origin import describe_origin
from dualpath.engine.plan import Plan, describe
from dualpath.engine.predict import VideoClassifier
from dualpath.engine.prepare import Usable, default_workers, enough
from dualpath.engine.progress import Bar, bar_if_long
from dualpath.engine.record import Record, fingerprint
from dualpath.engine.schedule import draw_seed, make_schedule
from dualpath.engine.state import DATA, Position, load_state, save_state
from dualpath.engine.warm_start import WarmStart, warm_start_settings
from dualpath.errors import DualPathError, FetchError, Interrupted, number_of
from dualpath.methods import find_method
from dualpath.processes import stops_heard
from dualpath.terminal import in_line

MOST_NAMES = 16
TWICE_SECONDS = 1.0
"""So much later, Ctrl-C is meant to be one more; systemd and Slurm give a process and its group a signal each."""
VALIDATION = "validation"
"""Folder of the evaluation that the best checkpoint had in its training, as `dualpath evaluate` writes one."""


def split_counts(manifest: Manifest) -> list[tuple[str, int]]:
    """How many videos there are of each split."""
    return [(split, len(manifest.split(split))) for split in ("train", "val", "test")]


class Run:
    """One training run: what its steps share."""

    def __init__(
        self,
        output: Path,
        config: RunConfig,
        found: Usable,
        model: nn.Module,
        plan: Plan,
        device: torch.device,
        *,
        resume: bool,
        kept: Path | None = None,
        start: WarmStart | None = None,
    ) -> None:
        self.output, self.config, self.found, self.plan = output, config, found, plan
        manifest = self.manifest = found.manifest
        self.training = config.training
        self.workers = default_workers(self.training.workers)
        self.videos: Sequence[Video] = manifest.split("train")
        self.schedule = make_schedule(len(self.videos), self.training)
        self.inner, self.device = model, device
        before = read_known(output) if resume else None
        readable = manifest.split("val")
        self.val: tuple[Video, ...] = readable + found.wrong
        self.seen = self._look_at_files(before)
        self.clips = self._clips(kept)
        labels, classes = [video.label for video in self.videos], len(manifest.classes)
        weights = balanced_weights(labels, classes) if self.training.class_weights else None
        self.learner = Learner(model, self.training, device, class_weights=weights)
        digest = fingerprint(manifest)
        data = {"videos": len(manifest.videos), "classes": list(manifest.classes), DATA: digest}
        self.settings = json.dumps(warm_start_settings(start) | config.settings() | data)
        self.position = load_state(output, self.learner, self.settings) if resume else Position(epochs=self.schedule.epochs)
        self.epochs_before = self.position.epochs
        self.position = replace(self.position, epochs=self.schedule.epochs)
        self.last_saved = time.monotonic()
        self.step_seconds = self.waited_seconds = 0.0  # of the last step; it begins with waiting for its clips
        self.stop_signal: int | None = None
        told = None if weights is None else dict(zip(manifest.classes, weights, strict=True))
        self.record = Record(output, data=digest, resume=resume, start=start, class_weights=told)
        self.bad_val = {len(readable) + i: found.bad[video.name] for i, video in enumerate(found.wrong)}

    def spec(self, results: dict[str, Any]) -> ModelSpec:
        """The checkpoint's description."""
        told: dict[str, Any] = {"epochs": self.schedule.epochs, "batch": self.training.batch_size * self.training.accumulate}
        told |= {
            "learning rate": self.training.peak_lr or "measured",
            "seed": self.training.seed,
            "training videos": len(self.videos),
        }
        if self.record.baseline:
            told["baseline"] = describe_baseline(self.record.baseline)
        return ModelSpec(
            method=self.config.method,
            options=self.config.options or find_method(self.config.method).config(),
            backbone=self.config.backbone,
            classes=self.manifest.classes,
            sampling=self.config.sampling,
            split_seed=self.training.seed,
            val_fraction=self.training.val_fraction,
            training=told | results,
            format=self.manifest.format,
            fold=self.manifest.fold,
            held_out=self.config.held_out,
        )

    def go(self) -> dict[str, Any]:
        """Tells the plan, runs the loop, returns the last epoch's figures."""
        self._tell_plan()
        if self.position.step:
            print(f"resuming   after step {self.position.step} of {self.schedule.steps}", file=sys.stderr)
            for name in ("last", "best"):
                mend_checkpoint(self.output / name)
        else:
            write_known(self.output, self.manifest, self.found.bad, self.seen)
            self._save()  # from now on there is something to resume, whatever happens
        if self.schedule.epochs > self.epochs_before:
            self._extend()
        self._write_record()
        log = Log(self.output, resumed=self.position)
        results: dict[str, Any] = {}
        self._say_what_is_unusual()
        watch = LossWatch(len(self.manifest.classes), warmup=self.schedule.warmup)
        try:
            with self._signals():
                self._measure_baseline()
            with self._signals(), Bar("training", total=self.schedule.steps, done=self.position.step) as bar:
                if self.position.epoch > self.position.closed:  # it was stopped between the last step and the validation
                    results = self._end_epoch(log)
                for loss in self._steps(log):
                    self._after_step(loss, log, bar)
                    self._say(watch.add(loss, self.position.step) if loss is not None else None)
                    self._stop_if_asked()
                    if self.position.batch == 0:
                        results = self._end_epoch(log)
                    self._save_if_due()
        except (RuntimeError, FetchError) as problem:
            self._give_up(problem)
            raise
        finally:
            log.close()
        self._say(judge(self.position.best, self.record.baseline, self.output))
        return results | ({"best_top1": self.position.best} if self.position.best >= 0 else {})

    def _say(self, sentence: str | None) -> None:
        if sentence is not None:
            print(f"note: {in_line(sentence)}", file=sys.stderr)

    def _say_what_is_unusual(self) -> None:
        self._say(uneven_classes([video.label for video in self.videos], self.manifest.classes))
        if self.config.held_out is None:
            self._say(few_videos(len(self.val)))

    def _measure_baseline(self) -> None:
        """What frozen features alone reach, measured once in a run's life and written to its record."""
        backbone: Any = self.inner.backbone
        frozen = not any(value.requires_grad for value in backbone.parameters())
        if not self.training.baseline or self.record.baseline or not (frozen or self.position.step == 0):
            return
        results, train = measure_baseline(
            backbone,
            self.videos,
            self.val,
            spec=self.spec({}),
            views=self.config.views,
            workers=self.workers,
            device=self.device,
            output=self.output,
            stop=self._stop_if_asked,
            bad=self.bad_val,
        )
        if (
            train is not None
            and self.position.step == 0
            and start_classifier(self.inner, train, num_frames=self.config.sampling.num_frames, seed=self.training.seed)
        ):
            self._save()
        self.record.baseline = {name: asdict(result) for name, result in results.items()}
        self._write_record()
        print(describe_baseline(self.record.baseline), file=sys.stderr)

    def _extend(self) -> None:
        """Tells and records that the run has become longer; its state takes over the new length at once."""
        step, before, epochs = self.position.step, self.epochs_before, self.schedule.epochs
        rates = f"the learning rate follows the longer schedule from step {step + 1} on"
        print(f"longer     was {number_of(before, 'epoch')}, now {epochs}: {rates}", file=sys.stderr)
        extension = {"step": step, "epochs_before": before, "epochs": epochs}
        if extension not in self.record.extensions:  # a kill may have come between record and state
            self.record.extensions.append(extension)
        self._write_record()
        self._save()

    def _give_up(self, problem: RuntimeError | FetchError) -> None:
        """Keeps the state and tells the user what can be mended; returns if it is an error of ours."""
        kept = f"; the state after step {self.position.step} is kept, --resume continues it"
        died = isinstance(problem, WorkersLost)
        if isinstance(problem, torch.OutOfMemoryError):
            told = f"the memory of {self.device} ran out; use half the --batch_size and twice the --accumulate in a new folder"
        elif died or isinstance(problem, FetchError):
            told = f"{problem}{kept}"
        else:
            return
        self._save()
        if died and self.stop_signal is not None:  # the signal went to the whole group
            raise Interrupted(self.stop_signal, self.output, self.position.step) from problem
        raise DualPathError(told) from problem

    def _tell_plan(self) -> None:
        text = describe(
            self.plan,
            self.config,
            backbone=self.inner.backbone,  # pyright: ignore[reportArgumentType]
            counts=split_counts(self.manifest),
            listed=self.manifest.census_words(),
            num_classes=len(self.manifest.classes),
            schedule=self.schedule,
            device=self.device,
            classes=self.manifest.classes,
        )
        print(text, file=sys.stderr)

    def _write_record(self) -> None:
        shared = isinstance(self.clips, KeptClips)
        self.record.write(self.config, self.found, plan=self.plan, device=self.device, shared_clips=shared)

    def _look_at_files(self, before: Known | None) -> dict[Path, Seen]:
        """What the files of training and validation were when the run began."""
        videos = [*self.videos, *self.val]
        if before is not None:
            return before.seen(videos)
        with bar_if_long("looking at files") as tell:
            return look_at_all((video.path for video in videos), tell)

    def _replaced_val(self) -> dict[int, str]:
        """Reason by index of the validation videos that are not those which the run began with."""
        told = {i: why_replaced(v.path, self.seen[v.path]) for i, v in enumerate(self.val) if v.path in self.seen}
        return {index: reason for index, reason in told.items() if reason is not None}

    def _clips(self, kept: Path | None) -> KeyedClips:
        """The training clips, by way of the folder of those that other runs have decoded, if there is one."""
        clips = TrainClips(
            self.videos,
            sampling=self.config.sampling,
            transform=self.config.transform,
            size=self.inner.backbone.size,  # pyright: ignore[reportAttributeAccessIssue, reportArgumentType]
            flip=self.config.transform.flips(self.manifest.classes),
            seed=self.training.seed,
            decoder=self.config.views.decoder,
            seconds=self.config.views.seconds,
            damaged=self.config.views.damaged,
            seen=self.seen,
        )
        if kept is None:
            return clips
        try:
            return KeptClips(clips, kept, epochs=self.schedule.epochs)
        except OSError as problem:
            print(f"decoded clips cannot be kept in {kept} ({problem.strerror}): this run decodes its own", file=sys.stderr)
            return clips

    def _steps(self, log: Log) -> Iterator[float | None]:
        """Makes one optimizer step after another, advances `position` and yields each step's mean loss.

        None for a step whose videos were all unreadable: nothing is learnt in it.
        """
        lost = self.position.lost
        self.clips.lost.update({i: lost[v.name] for i, v in enumerate(self.videos) if v.name in lost})
        batches = steady_train(
            self.clips,
            Course(
                self.training.batch_size,
                self.schedule.epochs,
                first_epoch=self.position.epoch,
                first_batch=self.position.batch,
                balanced=self.training.class_sampling is not None,
            ),
            workers=self.workers,
            pin_memory=self.device.type == "cuda",
            stopped=lambda: self.stop_signal is not None,
        )
        while self.position.epoch < self.schedule.epochs:
            began = time.monotonic()
            left = self.schedule.batches_an_epoch - self.position.batch
            group = [next(batches) for _ in range(min(self.training.accumulate, left))]
            self.waited_seconds = time.monotonic() - began
            self._note_lost([lost for batch in group for lost in batch.lost], log)
            clips = sum(len(batch.labels) for batch in group)
            self.learner.begin()
            loss = self._step(group) if clips else None
            used = self.position.batch + len(group)
            ended = used == self.schedule.batches_an_epoch
            self.step_seconds = time.monotonic() - began
            self.position = replace(
                self.position,
                step=self.position.step + 1,
                epoch=self.position.epoch + ended,
                batch=0 if ended else used,
                seconds=self.position.seconds + self.step_seconds,
                idle=self.position.idle + (clips == 0),
                lost={self.videos[index].name: reason for index, reason in self.clips.lost.items()},
            )
            yield loss

    def _note_lost(self, lost: Sequence[Lost], log: Log) -> None:
        """Names videos that were skipped for the first time; DualPathError if they have become too many."""
        new = {
            self.videos[one.index].name: one.reason for one in lost if self.videos[one.index].name not in self.record.skipped
        }
        if not new:
            return
        for name, reason in new.items():
            print(f"skipped {in_line(name)}: {reason}", file=sys.stderr)
            if name not in self.record.skipped_before:
                log.skipped(self.position, name=name, reason=reason)
        self.record.skipped |= new
        self._write_record()
        bad, videos = len(self.found.bad) + len(self.record.skipped), len(self.manifest.videos) + len(self.found.bad)
        if bad > self.training.max_bad_files * videos:
            self._save()
            names = ", ".join(list(self.record.skipped)[:MOST_NAMES])
            raise DualPathError(
                f"{bad} of {videos} videos cannot be used, the last ones found in training ({names}); mend them, or leave "
                f"them out with --max_bad_files {enough(bad, videos)}; the state after step {self.position.step} is kept, "
                "--resume continues it"
            )

    def _step(self, group: Sequence[TrainBatch]) -> float:
        seed = self.training.seed
        micros = [
            Micro(batch.frames, batch.labels, draw_seed(seed, self.position.step, number)) for number, batch in enumerate(group)
        ]
        try:
            return self.learner.step(micros, lr=lambda peak: self.schedule.learning_rate(self.position.step, peak=peak))
        except NotFiniteError as problem:
            self._not_finite(problem.what, [int(group[number].indices[place]) for number, place in problem.clips])

    def _not_finite(self, what: str, indices: Sequence[int]) -> NoReturn:
        self._save()
        names = [self.videos[index].name for index in indices]
        more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
        raise DualPathError(
            f"the {what} of step {self.position.step + 1} is not finite for {', '.join(names[:MOST_NAMES])}{more}; look at "
            f"these videos, lower the learning rate (--lr) or use --precision fp32; the state before "
            "that step is kept"
        )

    def _after_step(self, loss: float | None, log: Log, bar: Bar) -> None:
        if loss is None:
            bar.update(self.position.step, "no video of the step could be read")
            return
        size = min(self.training.batch_size * self.training.accumulate, len(self.videos))
        speed = log.step(
            self.position,
            loss=loss,
            lr=self.learner.lr,
            clips=size,
            steps_an_epoch=self.schedule.steps_an_epoch,
            seconds=self.step_seconds,
            waited=self.waited_seconds,
        )
        frames = speed * self.config.sampling.num_frames
        bar.update(
            self.position.step,
            f"epoch {1 + (self.position.step - 1) // self.schedule.steps_an_epoch}/{self.schedule.epochs} loss {loss:.3f} "
            f"lr {self.learner.lr:.2e} {speed:.1f} clips/s {frames:.0f} decoded frames/s",
        )

    def _stop_if_asked(self, *_: int) -> None:
        if self.stop_signal is not None:
            self._save()
            save_checkpoint(self.output / "last", self.inner, self.spec({"epoch": self.position.epoch}))
            raise Interrupted(self.stop_signal, self.output, self.position.step)

    def _end_epoch(self, log: Log) -> dict[str, Any]:
        """Validates, writes last and maybe best, logs the epoch."""
        done = self.position.epoch
        results: dict[str, Any] = {"epoch": done}
        found = None
        val, every = self.val, self.schedule.eval_every
        due = bool(val) and every > 0 and (done % every == 0 or done == self.schedule.epochs)
        if due:
            self._save()  # a validation may be long: its training is safe
            classifier = VideoClassifier(self.inner, self.spec({}), device=self.device)
            replaced = self._replaced_val()
            bad = self.bad_val | replaced
            found = evaluate(
                classifier,
                val,
                views=self.config.views,
                batch_size=self.training.batch_size,
                workers=self.workers,
                progress=self._stop_if_asked,
                bad=bad,
                stopped=lambda: self.stop_signal is not None,
            )
            self.bad_val |= {index: reason for index, reason in bad.items() if index not in replaced}
            results |= self._note_validation(found)
        save_checkpoint(self.output / "last", self.inner, self.spec(results))
        self.position = replace(self.position, closed=done)
        if found is not None and is_as_good(results["val_top1"], self.position.best, len(val)):
            self.position = replace(self.position, best=max(self.position.best, results["val_top1"]))
            save_checkpoint(self.output / "best", self.inner, self.spec(results))
            self._keep_validation(found)
        self._write_record()
        log.epoch(self.position, results)
        self._save()
        return results

    def _keep_validation(self, found: Evaluation) -> None:
        """Writes the best epoch's predictions; a kill before the epoch is closed has them written again."""
        origin = describe_origin(
            VideoClassifier(self.inner, self.spec({}), device=self.device),
            checkpoint=self.output / "best",
            data=self.manifest.root,
            split="val",
            videos=found.videos,
            views=self.config.views,
            seconds=found.seconds,
        )
        replace(found, data=self.manifest.census(), origin=origin).write(self.output / VALIDATION)

    def _note_validation(self, found: Evaluation) -> dict[str, Any]:
        """Names what could not be decoded, which is wrong as in an evaluation; gives the epoch's figures."""
        told = found.summary()
        scored = [row for row in range(len(found.videos)) if row not in found.failures]
        predicted = found.scores[scored].argmax(axis=1).tolist()
        self._say(one_class_for_all(predicted, [found.videos[row].label for row in scored], self.manifest.classes))
        for name, reason in told["undecodable"].items():
            if name not in self.record.skipped and name not in self.found.bad:
                print(f"counted as wrong: {in_line(name)}: {reason}", file=sys.stderr)
                self.record.skipped[name] = reason
        self.record.validated = {key: told[key] for key in ("videos", "undecodable")}
        self._write_record()
        figures = {"val_top1": found.top(1), "val_undecodable": len(told["undecodable"])}
        return figures | {f"val_{key}": told[key] for key in ("mean_class_accuracy", "protocol", "videos")}

    def _save(self) -> None:
        save_state(self.output, self.learner, self.position, self.settings)
        self.last_saved = time.monotonic()

    def _save_if_due(self) -> None:
        if time.monotonic() - self.last_saved >= self.training.save_every:
            self._save()

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """While training, signals to stop only ask: the step in hand is finished and its state written."""
        asked_at = 0.0

        def ask(signum: int, frame: FrameType | None) -> None:
            del frame
            nonlocal asked_at
            if self.stop_signal is None:
                self.stop_signal, asked_at = signum, time.monotonic()
            elif signum == signal.SIGINT and time.monotonic() - asked_at > TWICE_SECONDS:
                raise KeyboardInterrupt  # a person who does not want to wait

        before = {number: signal.signal(number, ask) for number in stops_heard()}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
