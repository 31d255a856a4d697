using Z1Coder.Runtime;

namespace Z1Coder.Trainer.Checkpoints;

/// <summary>The file operations on the real file system.</summary>
internal sealed class DiskFiles : ICheckpointFiles
{
    /// <summary>There is one file system.</summary>
    public static readonly DiskFiles Instance = new();

    private DiskFiles()
    {
    }

    public void CreateDirectory(string path) => Directory.CreateDirectory(path);

    public bool DirectoryExists(string path) => Directory.Exists(path);

    public IReadOnlyList<string> Directories(string path) => Directory.Exists(path) ? Names(Directory.GetDirectories(path)) : [];

    public IReadOnlyList<string> Files(string path) => Names(Directory.GetFiles(path));

    public Stream Create(string path) => new FileStream(path, FileMode.Create, FileAccess.Write, FileShare.Read, bufferSize: 0);

    public void Flush(Stream file) => ((FileStream)file).Flush(flushToDisk: true);

    public void FlushDirectory(string path) => Posix.FlushDirectory(path);

    public void Move(string from, string to) => Directory.Move(from, to);

    public void DeleteFile(string path) => File.Delete(path);

    public void DeleteDirectory(string path) => Directory.Delete(path);

    public long Length(string path)
    {
        var info = new FileInfo(path);
        return info.Exists ? info.Length : -1;
    }

    public Stream OpenRead(string path) =>
        new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.Read, bufferSize: 0, FileOptions.SequentialScan);

    private static string[] Names(string[] paths) => Array.ConvertAll(paths, p => Path.GetFileName(p));
}
