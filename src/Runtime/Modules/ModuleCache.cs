using System.Buffers.Binary;
using System.Security.Cryptography;
using System.Text;

namespace Z1Coder.Runtime;

/// <summary>
/// Compiled kernels on disk, one file per key. An entry carries the hash of its content; one that does not match is compiled again and
/// replaced. A directory that cannot be written costs one warning, and every process compiles for itself.
/// </summary>
internal sealed class ModuleCache
{
    private static readonly byte[] s_magic = "z1-module-1\n"u8.ToArray();
    private static readonly Lazy<ModuleCache> s_default = new(() => new(DefaultDirectory(), Console.Error));

    private readonly string _directory;
    private readonly TextWriter _warnings;
    private int _warned;

    public ModuleCache(string directory, TextWriter warnings)
    {
        _directory = directory;
        _warnings = warnings;
    }

    /// <summary>In Z1_CACHE, $XDG_CACHE_HOME/z1 or ~/.cache/z1.</summary>
    public static ModuleCache Default => s_default.Value;

    /// <summary>SHA-256 over everything that decides the bytes of the image.</summary>
    public static string Key(
        string compiler, string architecture, IEnumerable<string> options, string text, IEnumerable<(string Name, string Text)> includes)
    {
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        Span<byte> length = stackalloc byte[4];
        foreach (var part in new[] { compiler, architecture }.Concat(options).Append("text").Append(text).Concat(includes.SelectMany(i => new[] { i.Name, i.Text })))
        {
            var bytes = Encoding.UTF8.GetBytes(part);
            BinaryPrimitives.WriteInt32LittleEndian(length, bytes.Length);
            hash.AppendData(length);
            hash.AppendData(bytes);
        }

        return Convert.ToHexStringLower(hash.GetHashAndReset());
    }

    /// <summary>The entry, or null when it is absent or does not verify.</summary>
    public KernelImage? Read(string key)
    {
        byte[] bytes;
        try
        {
            bytes = File.ReadAllBytes(PathOf(key));
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return null;
        }

        var header = s_magic.Length + SHA256.HashSizeInBytes;
        if (bytes.Length < header + 4
            || !bytes.AsSpan(0, s_magic.Length).SequenceEqual(s_magic)
            || !bytes.AsSpan(s_magic.Length, SHA256.HashSizeInBytes).SequenceEqual(Hash(key, bytes.AsSpan(header))))
        {
            return null;
        }

        var logLength = BinaryPrimitives.ReadInt32LittleEndian(bytes.AsSpan(header));
        return logLength < 0 || logLength > bytes.Length - header - 4
            ? null
            : new(bytes[(header + 4 + logLength)..], Encoding.UTF8.GetString(bytes, header + 4, logLength), FromCache: true);
    }

    /// <summary>Stores an entry, whole or not at all.</summary>
    public void Write(string key, KernelImage image)
    {
        var log = Encoding.UTF8.GetBytes(image.Log);
        var header = s_magic.Length + SHA256.HashSizeInBytes;
        var bytes = new byte[header + 4 + log.Length + image.Image.Length];
        s_magic.CopyTo(bytes, 0);
        BinaryPrimitives.WriteInt32LittleEndian(bytes.AsSpan(header), log.Length);
        log.CopyTo(bytes, header + 4);
        image.Image.CopyTo(bytes, header + 4 + log.Length);
        Hash(key, bytes.AsSpan(header)).CopyTo(bytes, s_magic.Length);
        var path = PathOf(key);
        var draft = $"{path}.{Environment.ProcessId}-{Environment.CurrentManagedThreadId}";
        try
        {
            Directory.CreateDirectory(_directory);
            File.WriteAllBytes(draft, bytes);
            File.Move(draft, path, overwrite: true);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            if (Interlocked.Exchange(ref _warned, 1) == 0)
            {
                _warnings.WriteLine($"z1: cannot store compiled kernels in {_directory} ({e.Message.TrimEnd('.')}); every process compiles them again, or set Z1_CACHE.");
            }

            TryDelete(draft);
        }
    }

    private static byte[] Hash(string key, ReadOnlySpan<byte> content)
    {
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        hash.AppendData(Encoding.UTF8.GetBytes(key));       // an entry copied to another name does not verify
        hash.AppendData(content);
        return hash.GetHashAndReset();
    }

    internal static string DefaultDirectory()
    {
        if (Environment.GetEnvironmentVariable("Z1_CACHE") is { Length: > 0 } chosen)
        {
            return Path.Combine(chosen, "modules");
        }

        var cache = Environment.GetEnvironmentVariable("XDG_CACHE_HOME");
        if (string.IsNullOrEmpty(cache))
        {
            var home = Environment.GetFolderPath(Environment.SpecialFolder.UserProfile);
            cache = home.Length > 0 ? Path.Combine(home, ".cache") : Path.GetTempPath();
        }

        return Path.Combine(cache, "z1", "modules");
    }

    private static void TryDelete(string path)
    {
        try
        {
            File.Delete(path);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            // the warning has been given
        }
    }

    private string PathOf(string key) => Path.Combine(_directory, key);
}
