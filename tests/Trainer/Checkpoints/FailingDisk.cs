using Z1Coder.Trainer.Checkpoints;

namespace Z1Coder.Tests.Trainer.Checkpoints;

/// <summary>One rank's view of a disk that others use too: it may be full, or this rank be killed, for this rank alone.</summary>
internal sealed class FailingDisk(ICheckpointFiles disk) : ICheckpointFiles
{
    private int _operationsLeft = -1;

    /// <summary>When set, creating files fails as on a full disk.</summary>
    public bool Full { get; set; }

    /// <summary>Operations until this rank is killed; negative: never.</summary>
    public int OperationsLeft
    {
        get => Volatile.Read(ref _operationsLeft);
        set => Volatile.Write(ref _operationsLeft, value);
    }

    public void CreateDirectory(string path)
    {
        Step();
        disk.CreateDirectory(path);
    }

    public bool DirectoryExists(string path) => disk.DirectoryExists(path);

    public IReadOnlyList<string> Directories(string path) => disk.Directories(path);

    public IReadOnlyList<string> Files(string path) => disk.Files(path);

    public Stream Create(string path)
    {
        Step();
        return Full ? throw new IOException("No space left on device") : disk.Create(path);
    }

    public void Flush(Stream file)
    {
        Step();
        disk.Flush(file);
    }

    public void FlushDirectory(string path)
    {
        Step();
        disk.FlushDirectory(path);
    }

    public void Move(string from, string to)
    {
        Step();
        disk.Move(from, to);
    }

    public void DeleteFile(string path)
    {
        Step();
        disk.DeleteFile(path);
    }

    public void DeleteDirectory(string path)
    {
        Step();
        disk.DeleteDirectory(path);
    }

    public long Length(string path) => disk.Length(path);

    public Stream OpenRead(string path) => disk.OpenRead(path);

    private void Step()
    {
        if (OperationsLeft == 0)
        {
            throw new PlugPulledException();
        }

        OperationsLeft--;
    }
}
