using System.Globalization;
using System.Security.Cryptography;
using System.Text;
using Z1Coder.Runtime;

namespace Z1Coder.Kernels;

/// <summary>
/// The winners of algorithm searches on one machine: device, driver and library version, for an algorithm means nothing to another. One
/// text file, one line per product, ended by its own SHA-256; a file that is not exactly that is ignored, and replaced by the next winner.
/// </summary>
internal sealed class AlgorithmCache
{
    private const string Title = "z1 cublasLt algorithms 1";
    private readonly Lock _gate = new();
    private readonly Dictionary<CublasLtMatmulKey, (CublasLtAlgorithm Algorithm, double Microseconds)> _entries = [];
    private readonly string _machine;
    private readonly string? _path;
    private readonly Action<string> _warning;
    private bool _warned;

    /// <summary>Reads what is there.</summary>
    /// <param name="directory">null: memory only</param>
    /// <param name="machine">names device, driver and library; one line</param>
    /// <param name="warning">told once if the file cannot be written</param>
    public AlgorithmCache(string? directory, string machine, Action<string> warning)
    {
        _machine = machine;
        _warning = warning;
        if (directory is not null)
        {
            _path = Path.Combine(directory, $"cublaslt-{Hash(machine)[..16]}.txt");
            Read();
        }
    }

    /// <summary>The file, or null.</summary>
    public string? File => _path;

    /// <summary>Products known.</summary>
    public int Count
    {
        get
        {
            lock (_gate)
            {
                return _entries.Count;
            }
        }
    }

    /// <summary>The winner for a product, if one is known.</summary>
    public bool TryGet(in CublasLtMatmulKey key, out CublasLtAlgorithm algorithm)
    {
        lock (_gate)
        {
            var found = _entries.TryGetValue(key, out var entry);
            algorithm = entry.Algorithm;
            return found;
        }
    }

    /// <summary>Keeps a winner, in memory and on disk, unless another rank has come to one first: then that one counts for all, as it will
    /// for those who read the file later.</summary>
    /// <returns>the algorithm that is kept</returns>
    public CublasLtAlgorithm Add(in CublasLtMatmulKey key, CublasLtAlgorithm algorithm, double microseconds)
    {
        lock (_gate)
        {
            if (_path is null)
            {
                _entries.TryAdd(key, (algorithm, microseconds));
            }
            else
            {
                using var alone = Alone();
                Read();
                if (_entries.TryAdd(key, (algorithm, microseconds)))
                {
                    Write();
                }
            }

            return _entries[key].Algorithm;
        }
    }

    /// <summary>The file is this process's until the result is disposed of; null where it cannot be had in time, or written at all.</summary>
    private FileStream? Alone()
    {
        const int Patience = 5000, Nap = 10;
        for (var waited = 0; waited < Patience; waited += Nap)
        {
            try
            {
                Directory.CreateDirectory(Path.GetDirectoryName(_path!)!);
                return new FileStream(_path + ".lock", FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.None);
            }
            catch (IOException) when (System.IO.File.Exists(_path + ".lock"))
            {
                Thread.Sleep(Nap);
            }
            catch (Exception e) when (e is IOException or UnauthorizedAccessException)
            {
                return null;
            }
        }

        return null;
    }

    private void Read()
    {
        string[] lines;
        try
        {
            var text = System.IO.File.ReadAllText(_path!);
            var end = text.LastIndexOf("sha256 ", StringComparison.Ordinal);
            if (end < 0 || text[end..] != Seal(text[..end]))
            {
                return;
            }

            lines = text[..end].Split('\n', StringSplitOptions.RemoveEmptyEntries);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return;
        }

        if (lines.Length < 2 || lines[0] != Title || lines[1] != $"machine {_machine}")
        {
            return;
        }

        foreach (var line in lines.AsSpan(2))
        {
            if (TryParse(line, out var key, out var entry))
            {
                _entries.TryAdd(key, entry);
            }
        }
    }

    private void Write()
    {
        var text = new StringBuilder().Append(Title).Append('\n').Append("machine ").Append(_machine).Append('\n');
        foreach (var (key, entry) in _entries.OrderBy(e => e.Key.ToString(), StringComparer.Ordinal))
        {
            text.Append(Line(key, entry)).Append('\n');
        }

        var body = text.ToString();
        try
        {
            Directory.CreateDirectory(Path.GetDirectoryName(_path!)!);
            var draft = $"{_path}.{Guid.NewGuid():N}";
            System.IO.File.WriteAllText(draft, body + Seal(body));
            System.IO.File.Move(draft, _path!, overwrite: true);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            if (!_warned)
            {
                _warned = true;
                _warning($"cublasLt: algorithms cannot be kept in {_path} ({e.Message}); the next run searches again");
            }
        }
    }

    private static string Seal(string body) => $"sha256 {Hash(body)}\n";

    private static string Hash(string text) => Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(text)));

    private static string Line(in CublasLtMatmulKey key, (CublasLtAlgorithm Algorithm, double Microseconds) entry) =>
        string.Create(
            CultureInfo.InvariantCulture,
            $"{key.M} {key.N} {key.K} {(key.TransposeA ? 'T' : 'N')}{(key.TransposeB ? 'T' : 'N')} {key.TypeA} {key.TypeB} {key.TypeD} "
            + $"{(key.HasBias ? "bias" : "plain")} {key.Alignment} {entry.Microseconds:F2} "
            + $"{Convert.ToHexStringLower(entry.Algorithm.ToBytes())}");

    private static bool TryParse(string line, out CublasLtMatmulKey key, out (CublasLtAlgorithm Algorithm, double Microseconds) entry)
    {
        (key, entry) = (default, default);
        var parts = line.Split(' ');
        if (parts.Length != 11
            || !int.TryParse(parts[0], CultureInfo.InvariantCulture, out var m)
            || !int.TryParse(parts[1], CultureInfo.InvariantCulture, out var n)
            || !int.TryParse(parts[2], CultureInfo.InvariantCulture, out var k)
            || parts[3].Length != 2
            || !Enum.TryParse<CublasLtType>(parts[4], out var a)
            || !Enum.TryParse<CublasLtType>(parts[5], out var b)
            || !Enum.TryParse<CublasLtType>(parts[6], out var d)
            || !int.TryParse(parts[8], CultureInfo.InvariantCulture, out var alignment)
            || !double.TryParse(parts[9], CultureInfo.InvariantCulture, out var microseconds)
            || parts[10].Length != 2 * CublasLtAlgorithm.Size
            || parts[10].AsSpan().ContainsAnyExcept(s_hex))
        {
            return false;
        }

        key = new CublasLtMatmulKey
        {
            M = m, N = n, K = k,
            TransposeA = parts[3][0] == 'T', TransposeB = parts[3][1] == 'T',
            TypeA = a, TypeB = b, TypeD = d,
            HasBias = parts[7] == "bias",
            Alignment = alignment,
        };
        entry = (CublasLtAlgorithm.FromBytes(Convert.FromHexString(parts[10])), microseconds);
        return true;
    }

    private static readonly System.Buffers.SearchValues<char> s_hex = System.Buffers.SearchValues.Create("0123456789abcdef");
}
