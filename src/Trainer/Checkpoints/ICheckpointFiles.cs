namespace Z1Coder.Trainer.Checkpoints;

/// <summary>
/// The file operations of a checkpoint, one by one, so that a test can stop the process between any two, or model a disk that forgets
/// what was not flushed. Nothing here reports success before the system did.
/// </summary>
internal interface ICheckpointFiles
{
    /// <summary>Creates a directory, and those above it.</summary>
    void CreateDirectory(string path);

    /// <summary>Whether a directory exists.</summary>
    bool DirectoryExists(string path);

    /// <summary>Names of the directories in a directory; none when it does not exist.</summary>
    IReadOnlyList<string> Directories(string path);

    /// <summary>Names of the files in a directory.</summary>
    IReadOnlyList<string> Files(string path);

    /// <summary>A new, empty file, unbuffered; an existing one is emptied.</summary>
    Stream Create(string path);

    /// <summary>Returns when the bytes written so far are on the medium.</summary>
    void Flush(Stream file);

    /// <summary>Returns when the entries of the directory are on the medium.</summary>
    void FlushDirectory(string path);

    /// <summary>Gives a directory another name beside it; the new name is free.</summary>
    void Move(string from, string to);

    /// <summary>Removes a file.</summary>
    void DeleteFile(string path);

    /// <summary>Removes an empty directory.</summary>
    void DeleteDirectory(string path);

    /// <summary>Bytes of a file; -1 when there is none.</summary>
    long Length(string path);

    /// <summary>A file to read from its start, unbuffered.</summary>
    Stream OpenRead(string path);
}
