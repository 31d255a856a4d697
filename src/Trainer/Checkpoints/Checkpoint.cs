using Z1Coder.Trainer.Data;

namespace Z1Coder.Trainer.Checkpoints;

/// <summary>A published checkpoint.</summary>
public sealed class Checkpoint
{
    private readonly ICheckpointFiles _files;
    private readonly CheckpointManifest _manifest;

    internal Checkpoint(ICheckpointFiles files, string directory, CheckpointManifest manifest)
    {
        _files = files;
        _manifest = manifest;
        Directory = directory;
    }

    /// <summary>Step, world size and model.</summary>
    public CheckpointInfo Info => _manifest.Info;

    /// <summary>Where the files lie.</summary>
    public string Directory { get; }

    /// <summary>What it holds.</summary>
    public IReadOnlyList<CheckpointFile> Files => _manifest.Files;

    /// <summary>The path of one of its files, for a reader that opens files itself.</summary>
    /// <exception cref="InvalidInputException">it holds no such file</exception>
    public string PathOf(string name) => Files.Any(f => f.Name == name)
        ? Path.Combine(Directory, name)
        : throw new InvalidInputException($"checkpoint {Directory} holds no file {Quoted.Name(name)}{NearestNames.Phrase(name, Files.Select(f => f.Name))}");

    /// <summary>One of its files, unbuffered, from its start.</summary>
    public Stream OpenRead(string name)
    {
        var path = PathOf(name);
        try
        {
            return _files.OpenRead(path);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new InvalidInputException($"cannot read {path}: {e.Message}", e);
        }
    }
}
