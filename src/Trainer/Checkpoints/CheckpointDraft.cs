using Z1Coder.Trainer.Data;

namespace Z1Coder.Trainer.Checkpoints;

/// <summary>
/// A checkpoint being written by one rank. Each rank writes its own files; nothing it does is visible under the published name.
/// </summary>
public sealed class CheckpointDraft
{
    private readonly ICheckpointFiles _files;
    private readonly List<CheckpointFile> _written = [];

    internal CheckpointDraft(ICheckpointFiles files, string directory, CheckpointInfo info, int rank)
    {
        _files = files;
        Directory = directory;
        Info = info;
        Rank = rank;
    }

    /// <summary>Step, world size and model.</summary>
    public CheckpointInfo Info { get; }

    /// <summary>The rank that writes here.</summary>
    public int Rank { get; }

    internal string Directory { get; }

    internal IReadOnlyList<CheckpointFile> Written => _written;

    /// <summary>Writes one file: the stream hashes what passes, and the file is on the medium when this returns.</summary>
    /// <param name="name">letters, digits, '.', '-', '_'; unique over all ranks: put the rank into it</param>
    /// <param name="write">writes the content; need not flush or close</param>
    /// <exception cref="InvalidInputException">the disk is full or not writable; earlier checkpoints are untouched</exception>
    public void Write(string name, Action<Stream> write)
    {
        ArgumentNullException.ThrowIfNull(write);
        if (!CheckpointManifest.IsFileName(name) || _written.Exists(f => f.Name == name))
        {
            throw new ArgumentException($"'{name}' is taken, reserved, or not made of letters, digits, '.', '-' and '_'", nameof(name));
        }

        var path = Path.Combine(Directory, name);
        CheckpointStore.Guard(path, Info.Step, () =>
        {
            using var file = _files.Create(path);
            using var hashing = new HashingStream(file);
            write(hashing);
            var sha256 = hashing.Complete();
            _files.Flush(file);
            _written.Add(new(name, hashing.Length, sha256));
        });
    }

    /// <summary>Writes one small file.</summary>
    public void Write(string name, byte[] content) => Write(name, stream => stream.Write(content));

    /// <summary>States what this rank wrote, for rank 0 to collect; the last thing a rank other than 0 does before the barrier.</summary>
    public void Finish()
    {
        var path = Path.Combine(Directory, CheckpointManifest.PartName(Rank));
        CheckpointStore.Guard(path, Info.Step, () =>
        {
            using var file = _files.Create(path);
            file.Write(new CheckpointManifest(Info, _written).ToJson());
            _files.Flush(file);
        });
    }
}
