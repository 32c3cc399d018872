"""A folder of recordings: noises, or impulse responses of rooms."""

from __future__ import annotations

from pathlib import Path

import soundfile
import soxr
import torch
from torch import Tensor

from sertk.core import UsageError, check_range
from sertk.core.walk import READ, below


class Folder:
    """The recordings below a folder, sorted by path; looked at when made, and read whole when first used.

    Args:
        who: Whose folder it is, for errors.
        path: The folder; what is below its folders counts too.
        rate: Hz that recordings are resampled to.
        minutes: Of all recordings at most, for they stay in memory: 3.84 MB a minute at 16 kHz.

    Raises:
        UsageError: Where it is no folder, holds no audio or too much of it, or a file is no audio.
    """

    def __init__(self, who: str, path: str, rate: int, minutes: float) -> None:
        check_range(who, "rate", rate, at_least=1, at_most=384_000, unit="Hz")
        check_range(who, "minutes", minutes, above=0)
        folder = Path(path).expanduser()
        if not folder.is_dir():
            raise UsageError(f"{who}: there is no folder {path!r}; give a folder of audio files")
        self._who, self._rate, self._paths = who, rate, below(folder).having(READ)
        if not self._paths:
            raise UsageError(f"{who}: folder {path!r} holds no audio ({', '.join(READ[:2])}, ...); give another one")
        total = sum(map(self._seconds, self._paths)) / 60
        if total > minutes:
            said = f"{who}: folder {path!r} holds {total:.3g} minutes, and minutes is {minutes:g}"
            raise UsageError(f"{said}; they stay in memory. Raise it, or give a folder with fewer")
        self._samples = self.size = torch.zeros(0)

    @property
    def count(self) -> int:
        """Recordings."""
        return len(self._paths)

    def load(self, device: torch.device) -> None:
        """Reads what was not read yet, and brings it to a device.

        Raises:
            UsageError: On a recording without samples or sound, or with samples that are no numbers.
        """
        if not len(self._samples):
            waves = [self._read(path) for path in self._paths]
            self._samples, self.size = torch.cat(waves), torch.tensor([len(wave) for wave in waves])
        self._samples, self.size = self._samples.to(device), self.size.to(device)

    def take(self, which: Tensor, start: Tensor, steps: int) -> Tensor:
        """(B, steps) samples of recordings, which begin again where they end.

        Args:
            which: (B,) int64 recordings.
            start: (B,) int64 first samples.
            steps: Samples of each.
        """
        begin = self.size.cumsum(0) - self.size
        places = (start[:, None] + torch.arange(steps, device=start.device)) % self.size[which, None]
        return self._samples[begin[which, None] + places]

    def _seconds(self, path: Path) -> float:
        try:
            return float(soundfile.info(path).duration)
        except (OSError, soundfile.LibsndfileError) as error:
            raise self._unusable(path, f"cannot be read ({error})") from None

    def _read(self, path: Path) -> Tensor:
        """(S,) samples, the mean of the channels."""
        try:
            samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
        except (OSError, soundfile.LibsndfileError) as error:
            raise self._unusable(path, f"cannot be read ({error})") from None
        wave: Tensor = torch.from_numpy(samples).mean(1)
        if rate != self._rate:
            wave = torch.from_numpy(soxr.resample(wave.numpy(), rate, self._rate, quality="VHQ"))
        if not (wave.isfinite().all() and wave.any()):  # a few samples at a high rate may become none
            raise self._unusable(path, "is silent, or has samples that are no numbers")
        return wave

    def _unusable(self, path: Path, why: str) -> UsageError:
        return UsageError(f"{self._who}: {path} {why}; remove it from the folder, or put it there as WAV or FLAC")
