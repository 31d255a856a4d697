using System.Globalization;
using System.Security.Cryptography;
using Z1Coder.Runtime;
using Z1Coder.Trainer.Data;

namespace Z1Coder.Trainer.Checkpoints;

/// <summary>
/// Checkpoints of a run under one directory, `step-00000060` each. A checkpoint is written as `step-00000060.tmp`, every file and the
/// directory are flushed to the medium, manifest.json with the SHA-256 of each file comes last, a rename publishes it and the parent is
/// flushed: at any moment, killed or cut from power, every published checkpoint is whole, and a resume finds the newest that verifies.
/// </summary>
/// <remarks>
/// With several ranks on a shared file system: rank 0 calls <see cref="Begin"/>, barrier, the others <see cref="Join"/>; each writes its
/// files and calls <see cref="CheckpointDraft.Finish"/>, barrier, rank 0 calls <see cref="Publish"/>: <see cref="CheckpointWriter"/> does
/// so.
/// One process alone: <see cref="Save"/>.
/// </remarks>
public sealed class CheckpointStore
{
    private const string Prefix = "step-", Temporary = ".tmp", Replaced = ".old", Trash = ".trash";
    private const int ReadBytes = 4 << 20;

    private readonly ICheckpointFiles _files;
    private readonly Action<string> _report;
    private readonly int _keep;
    private readonly HashSet<long> _damaged = [];
    private long? _verified;

    /// <summary>The checkpoints under a directory, which the first save creates.</summary>
    /// <param name="directory">of the run</param>
    /// <param name="keep">how many published checkpoints to keep, the newest ones; 0 keeps all</param>
    /// <param name="report">gets one sentence for each damaged checkpoint passed over, and for each that cannot be removed</param>
    public CheckpointStore(string directory, int keep = 0, Action<string>? report = null)
        : this(directory, keep, report, DiskFiles.Instance)
    {
    }

    internal CheckpointStore(string directory, int keep, Action<string>? report, ICheckpointFiles files)
    {
        ArgumentNullException.ThrowIfNull(directory);
        ArgumentOutOfRangeException.ThrowIfNegative(keep);
        Directory = Path.TrimEndingDirectorySeparator(directory);
        _keep = keep;
        _report = report ?? (_ => { });
        _files = files;
    }

    /// <summary>The directory of the run.</summary>
    public string Directory { get; }

    /// <summary>Steps of the published checkpoints, verified or not, oldest first.</summary>
    public IReadOnlyList<long> Steps
    {
        get
        {
            var names = Names();
            var steps = new SortedSet<long>();
            foreach (var name in names)
            {
                // a crash in the middle of replacing a checkpoint leaves the earlier one as .old
                var stem = name.EndsWith(Replaced, StringComparison.Ordinal) ? name[..^Replaced.Length] : name;
                if (StepOf(stem) is { } step)
                {
                    steps.Add(step);
                }
            }

            return [.. steps];
        }
    }

    /// <summary>Writes and publishes a checkpoint of one rank, then removes what <c>keep</c> no longer covers.</summary>
    /// <exception cref="InvalidInputException">the disk is full or not writable; earlier checkpoints are untouched</exception>
    public void Save(CheckpointInfo info, Action<CheckpointDraft> write)
    {
        ArgumentNullException.ThrowIfNull(write);
        var draft = Begin(info);
        try
        {
            write(draft);
            Publish(draft);
        }
        catch
        {
            Abandon(draft);
            throw;
        }
    }

    /// <summary>Rank 0: an empty directory to write into.</summary>
    public CheckpointDraft Begin(CheckpointInfo info)
    {
        ArgumentNullException.ThrowIfNull(info);
        ArgumentOutOfRangeException.ThrowIfNegative(info.Step);
        ArgumentOutOfRangeException.ThrowIfLessThan(info.WorldSize, 1);
        var path = PathOf(info.Step) + Temporary;
        Guard(path, info.Step, () =>
        {
            CreateDurably(Directory);
            Delete(path);
            _files.CreateDirectory(path);
        });
        return new CheckpointDraft(_files, path, info, 0);
    }

    /// <summary>Another rank, after rank 0 has begun: the same directory.</summary>
    public CheckpointDraft Join(CheckpointInfo info, int rank)
    {
        ArgumentNullException.ThrowIfNull(info);
        if (rank < 1 || rank >= info.WorldSize)
        {
            throw new ArgumentOutOfRangeException(nameof(rank), rank, $"ranks 1 to {info.WorldSize - 1} join");
        }

        return new CheckpointDraft(_files, PathOf(info.Step) + Temporary, info, rank);
    }

    /// <summary>Rank 0, after every other rank has finished: manifest, rename, retention. A checkpoint of the same step is
    /// replaced.</summary>
    /// <exception cref="InvalidInputException">a rank's part is missing, or the disk is full or not writable</exception>
    public void Publish(CheckpointDraft draft)
    {
        ArgumentNullException.ThrowIfNull(draft);
        var manifest = Collect(draft);
        var final = PathOf(draft.Info.Step);
        Guard(final, draft.Info.Step, () =>
        {
            using (var file = _files.Create(Path.Combine(draft.Directory, CheckpointManifest.FileName)))
            {
                file.Write(manifest.ToJson());
                _files.Flush(file);
            }

            _files.FlushDirectory(draft.Directory);
            if (_files.DirectoryExists(final))
            {
                Delete(final + Replaced);
                _files.Move(final, final + Replaced);
                _files.FlushDirectory(Directory);
            }

            _files.Move(draft.Directory, final);
            _files.FlushDirectory(Directory);
        });
        _verified = draft.Info.Step;
        _damaged.Remove(draft.Info.Step);
        Tidy(() => Delete(final + Replaced));
        Tidy(Prune);
    }

    /// <summary>
    /// The newest checkpoint whose manifest and every hash hold; null when there is none. Damaged ones are reported and passed over.
    /// </summary>
    /// <remarks>Changes nothing on disk. With several ranks all call it: rank 0 names one candidate after another, each rank hashes its
    /// part of
    /// the files, and all agree on the verdict.</remarks>
    /// <param name="world">all ranks; null for this process alone</param>
    /// <exception cref="InvalidInputException">the directory cannot be read</exception>
    public Checkpoint? FindNewest(ICollective? world = null)
    {
        const double None = -1;
        var (candidates, unreadable) = (new Queue<(long Step, bool IsOld)>(), (InvalidInputException?)null);
        if (world is null or { Rank: 0 })
        {
            try
            {
                candidates = new(Candidates());
            }
            catch (InvalidInputException e)
            {
                unreadable = e;
            }
        }

        while (true)
        {
            var own = unreadable is not null ? double.PositiveInfinity
                : candidates.TryDequeue(out var next) ? (2.0 * next.Step) + (next.IsOld ? 1 : 0) : None;
            var agreed = Largest(world, own);
            if (double.IsPositiveInfinity(agreed))
            {
                throw unreadable ?? new InvalidInputException($"rank 0 cannot read the checkpoints in {Directory}; its own message says why");
            }

            if (agreed == None)
            {
                return null;
            }

            var step = (long)(agreed / 2);
            if (Verified(world, step, PathOf(step) + (agreed % 2 == 1 ? Replaced : "")) is { } checkpoint)
            {
                return checkpoint;
            }
        }
    }

    /// <summary>The checkpoint of a step; the manifest and the lengths of the files are checked, their hashes only on request.</summary>
    /// <exception cref="InvalidInputException">there is none, or it is damaged</exception>
    public Checkpoint Open(long step, bool verifyHashes = false)
    {
        var path = PathOf(step);
        path = !_files.DirectoryExists(path) && _files.DirectoryExists(path + Replaced) ? path + Replaced : path;
        if (!_files.DirectoryExists(path))
        {
            var steps = Steps;
            throw new InvalidInputException(
                $"there is no checkpoint of step {step} in {Directory}; it holds {(steps.Count == 0 ? "none" : string.Join(", ", steps))}");
        }

        var checkpoint = Load(path, step);
        if (verifyHashes)
        {
            VerifyHashes(checkpoint);
        }

        return checkpoint;
    }

    /// <summary>Removes what a killed run left half done. Only for the one process that is going to write here.</summary>
    public void RemoveLeftovers() => Tidy(() =>
    {
        foreach (var name in _files.Directories(Directory))
        {
            var path = Path.Combine(Directory, name);
            if (name.EndsWith(Replaced, StringComparison.Ordinal) && StepOf(name[..^Replaced.Length]) is not null)
            {
                var final = path[..^Replaced.Length];
                if (_files.DirectoryExists(final))
                {
                    Delete(path);
                }
                else
                {
                    _files.Move(path, final);
                    _files.FlushDirectory(Directory);
                }
            }
            else if ((name.EndsWith(Temporary, StringComparison.Ordinal) && StepOf(name[..^Temporary.Length]) is not null)
                || (name.EndsWith(Trash, StringComparison.Ordinal) && name.StartsWith(Prefix, StringComparison.Ordinal)))
            {
                Delete(path);
            }
        }
    });

    /// <summary>Runs file operations; a refusal of the system becomes one sentence.</summary>
    internal static void Guard(string path, long step, Action operations)
    {
        try
        {
            operations();
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new InvalidInputException(
                $"cannot write the checkpoint of step {step}, earlier ones are untouched: {path}: {e.Message.ReplaceLineEndings(" ")}", e);
        }
    }

    private static long? StepOf(string name) =>
        name.StartsWith(Prefix, StringComparison.Ordinal) && name.Length >= Prefix.Length + 8
        && long.TryParse(name.AsSpan(Prefix.Length), NumberStyles.None, CultureInfo.InvariantCulture, out var step)
        && name == $"{Prefix}{step:D8}"
            ? step
            : null;

    private string PathOf(long step) => Path.Combine(Directory, $"{Prefix}{step:D8}");

    private CheckpointManifest Collect(CheckpointDraft draft)
    {
        var all = new List<CheckpointFile>(draft.Written);
        for (var rank = 1; rank < draft.Info.WorldSize; rank++)
        {
            var part = CheckpointManifest.Load(_files, Path.Combine(draft.Directory, CheckpointManifest.PartName(rank)));
            if (part.Info != draft.Info)
            {
                throw new InvalidInputException($"rank {rank} wrote {part.Info} into the checkpoint of {draft.Info}");
            }

            all.AddRange(part.Files);
        }

        foreach (var file in all)
        {
            var length = _files.Length(Path.Combine(draft.Directory, file.Name));
            if (length != file.Bytes)
            {
                throw new InvalidInputException(
                    $"cannot publish the checkpoint of step {draft.Info.Step}: its file {file.Name} has {length} bytes, its rank wrote {file.Bytes}");
            }
        }

        var twice = all.GroupBy(f => f.Name, StringComparer.Ordinal).FirstOrDefault(g => g.Count() > 1);
        return twice is null
            ? new CheckpointManifest(draft.Info, [.. all.OrderBy(f => f.Name, StringComparer.Ordinal)])
            : throw new InvalidOperationException($"two ranks wrote the checkpoint file '{twice.Key}'");
    }

    private Checkpoint Load(string path, long step)
    {
        var manifest = CheckpointManifest.Load(_files, Path.Combine(path, CheckpointManifest.FileName));
        if (manifest.Info.Step != step)
        {
            throw new InvalidInputException($"its manifest is of step {manifest.Info.Step}");
        }

        foreach (var file in manifest.Files)
        {
            var length = _files.Length(Path.Combine(path, file.Name));
            if (length != file.Bytes)
            {
                throw new InvalidInputException(
                    length < 0 ? $"its file {file.Name} is missing" : $"its file {file.Name} has {length} bytes instead of {file.Bytes}");
            }
        }

        return new Checkpoint(_files, path, manifest);
    }

    private static double Largest(ICollective? world, double own)
    {
        Span<double> values = [own];
        world?.AllReduce(values, Reduction.Max);
        return values[0];
    }

    private IEnumerable<(long Step, bool IsOld)> Candidates() =>
        from step in Steps.Reverse()
        from isOld in new[] { false, true }
        where _files.DirectoryExists(PathOf(step) + (isOld ? Replaced : ""))
        select (step, isOld);

    /// <summary>A candidate that all ranks found whole, each by its part of the hashes; null when one did not.</summary>
    private Checkpoint? Verified(ICollective? world, long step, string path)
    {
        var (rank, size) = world is null ? (0, 1) : (world.Rank, world.Size);
        var (checkpoint, fault) = ((Checkpoint?)null, (string?)null);
        try
        {
            checkpoint = Load(path, step);
            VerifyHashes(checkpoint, rank, size);
        }
        catch (InvalidInputException e)
        {
            fault = e.Message;
        }

        var worst = Largest(world, fault is null ? 0 : 1 + rank);
        if (worst == 0)
        {
            _verified = step;
            _damaged.Remove(step);
            return checkpoint;
        }

        _damaged.Add(step);
        if (fault is not null || rank == 0)
        {
            _report($"checkpoint {path} is passed over: {fault ?? $"rank {worst - 1} found it damaged"}");
        }

        return null;
    }

    /// <summary>Of the files, every <paramref name="size"/>-th from <paramref name="rank"/> on.</summary>
    private static void VerifyHashes(Checkpoint checkpoint, int rank = 0, int size = 1)
    {
        var files = checkpoint.Files.Where((_, i) => i % size == rank).ToList();
        var damaged = new string?[files.Count];
        Parallel.For(0, damaged.Length, i => damaged[i] = Verify(checkpoint, files[i]));
        if (damaged.FirstOrDefault(d => d is not null) is { } first)
        {
            throw new InvalidInputException(first);
        }
    }

    private static string? Verify(Checkpoint checkpoint, CheckpointFile file)
    {
        try
        {
            using var stream = checkpoint.OpenRead(file.Name);
            using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
            var buffer = GC.AllocateUninitializedArray<byte>((int)Math.Clamp(file.Bytes, 1, ReadBytes));
            while (stream.Read(buffer) is > 0 and var read)
            {
                hash.AppendData(buffer, 0, read);
            }

            return Convert.ToHexStringLower(hash.GetHashAndReset()) == file.Sha256 ? null : $"the content of {file.Name} does not match its SHA-256";
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or InvalidInputException)
        {
            return $"its file {file.Name} cannot be read: {e.Message}";
        }
    }

    /// <summary>
    /// Removes the oldest. Only those count as kept that are whole by manifest and lengths and were not found damaged; the one known to
    /// verify always stays.
    /// </summary>
    private void Prune()
    {
        if (_keep == 0)
        {
            return;
        }

        var whole = 0;
        foreach (var step in Steps.Reverse())
        {
            if (whole >= _keep && step != _verified)
            {
                Delete(PathOf(step));
            }
            else if (!_damaged.Contains(step) && IsWhole(step))
            {
                whole++;
            }
        }
    }

    private bool IsWhole(long step)
    {
        try
        {
            Load(PathOf(step), step);
            return true;
        }
        catch (InvalidInputException)
        {
            return false;
        }
    }

    private IReadOnlyList<string> Names()
    {
        try
        {
            return _files.Directories(Directory);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new InvalidInputException($"cannot read the checkpoints in {Directory}: {e.Message.ReplaceLineEndings(" ")}", e);
        }
    }

    private void CreateDurably(string path)
    {
        if (_files.DirectoryExists(path))
        {
            return;
        }

        var parent = Path.GetDirectoryName(Path.GetFullPath(path))!;
        CreateDurably(parent);
        _files.CreateDirectory(path);
        _files.FlushDirectory(parent);
    }

    /// <summary>Takes a directory out of sight first, so that a crash in the middle leaves no half checkpoint under a published
    /// name.</summary>
    private void Delete(string path)
    {
        if (!_files.DirectoryExists(path))
        {
            return;
        }

        if (!path.EndsWith(Trash, StringComparison.Ordinal))
        {
            var trash = path + Trash;
            Delete(trash);
            _files.Move(path, trash);
            _files.FlushDirectory(Directory);
            path = trash;
        }

        foreach (var file in _files.Files(path))
        {
            _files.DeleteFile(Path.Combine(path, file));
        }

        _files.DeleteDirectory(path);
    }

    /// <summary>Housekeeping may fail without harm to any checkpoint: it is reported, not thrown.</summary>
    private void Tidy(Action operations)
    {
        try
        {
            operations();
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            _report($"cannot tidy up {Directory}: {e.Message.ReplaceLineEndings(" ")}");
        }
    }

    /// <summary>After a failed save: frees the space, if the system lets us.</summary>
    internal void Abandon(CheckpointDraft draft) => Tidy(() => Delete(draft.Directory));
}
