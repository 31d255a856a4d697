using System.Text.Json;
using Z1Coder.Trainer.Curation.Filters;
using Z1Coder.Trainer.Data;

namespace Z1Coder.Trainer.Curation;

/// <summary>Open-source Python -> functions with docstrings that pass licence, size and near-duplicate filters. A directory's files come
/// in the order of their paths.</summary>
public sealed class SeedReader
{
    private const long MostFileBytes = 1 << 20;

    // links are not followed: they may lead round in a circle
    private static readonly EnumerationOptions s_walk =
        new() { RecurseSubdirectories = true, IgnoreInaccessible = true, AttributesToSkip = FileAttributes.ReparsePoint };

    private static readonly string[] s_code = ["content", "code", "text", "source"];
    private static readonly string[] s_license = ["license", "licenses", "max_stars_repo_licenses", "detected_licenses"];
    private static readonly string[] s_path = ["path", "max_stars_repo_path", "file", "id"];

    private readonly SeedOptions _options;
    private readonly DataReport _report;
    private readonly string _scratch;

    /// <summary>A reader that counts into <paramref name="report"/> and keeps signatures in nameless files of
    /// <paramref name="scratch"/>.</summary>
    public SeedReader(SeedOptions options, string scratch, DataReport report) => (_options, _scratch, _report) = (options, scratch, report);

    /// <summary>The functions of directories (their .py files) and of JSONL files (a file's text under content, code, text or source; path
    /// and license where known).</summary>
    public IEnumerable<SeedFunction> Read(IReadOnlyList<string> inputs)
    {
        ArgumentNullException.ThrowIfNull(inputs);
        Directory.CreateDirectory(_scratch);
        using var near = _options.NearDuplicates > 0 ? new NearDuplicates(_scratch, _options.NearDuplicates) : null;
        foreach (var (path, license, source) in inputs.SelectMany(Files))
        {
            foreach (var function in PythonSource.Functions(source))
            {
                _report.Records++;
                var seed = new SeedFunction($"{path}:{function.Line}:{function.Name}", path, license, function);
                if (Why(seed, near) is { } reason)
                {
                    _report.Drop(reason, seed.Id);
                    continue;
                }

                yield return seed;
            }
        }
    }

    private string? Why(SeedFunction seed, NearDuplicates? near)
    {
        var (function, license) = (seed.Function, seed.License);
        return _options.Licenses.Count > 0 && !_options.Licenses.Contains(license, StringComparer.OrdinalIgnoreCase) ? $"licence {license}"
            : function.Name.StartsWith("test", StringComparison.OrdinalIgnoreCase) || function.Name is "main" or "setup"
                ? "a test or an entry point"
            : function.Lines < _options.FewestLines ? "function too short"
            : function.Lines > _options.MostLines ? "function too long"
            : TeacherTexts.Words(function.Docstring) < _options.FewestDocstringWords ? "docstring too short"
            : !function.Returns ? "returns nothing"
            : near?.Add(function.Source) >= 0 ? FilterReasons.NearDuplicate
            : null;
    }

    private IEnumerable<(string Path, string License, string Source)> Files(string input)
    {
        if (!Directory.Exists(input))
        {
            foreach (var file in Rows(input))
            {
                yield return file;
            }

            yield break;
        }

        var byFolder = new Dictionary<string, string>();
        foreach (var path in Directory.EnumerateFiles(input, "*.py", s_walk).Order(StringComparer.Ordinal))
        {
            if (new FileInfo(path).Length > MostFileBytes)
            {
                _report.Drop("file too long", Path.GetRelativePath(input, path));
                continue;
            }

            var source = File.ReadAllText(path);
            var folder = Path.GetDirectoryName(path)!;
            if (!byFolder.TryGetValue(folder, out var license))
            {
                byFolder.Add(folder, license = Licenses.OfDirectory(folder, input));
            }

            yield return (Path.GetRelativePath(input, path), Licenses.OfHeader(source) ?? license, source);
        }
    }

    private static IEnumerable<(string Path, string License, string Source)> Rows(string path)
    {
        foreach (var (where, row) in Evaluate.JsonRows.Read(path))
        {
            var code = s_code.FirstOrDefault(key => row.TryGetProperty(key, out var value) && value.ValueKind == JsonValueKind.String)
                ?? throw new InvalidInputException($"{where}: no text field among {string.Join(", ", s_code)} holds the source");
            var name = s_path.Select(key => row.TryGetProperty(key, out var value) && value.ValueKind == JsonValueKind.String
                ? value.GetString() : null)
                .FirstOrDefault(value => value is not null) ?? Path.GetFileName(where);
            var source = row.GetProperty(code).GetString()!;
            yield return (name,
                s_license.Select(key => row.TryGetProperty(key, out var value) ? Name(value) : null)
                .FirstOrDefault(value => value is not null)
                ?? Licenses.OfHeader(source) ?? Licenses.Unknown, source);
        }
    }

    private static string? Name(JsonElement license) =>
        license.ValueKind == JsonValueKind.String ? license.GetString()
        : license.ValueKind == JsonValueKind.Array && license.GetArrayLength() > 0 && license[0].ValueKind == JsonValueKind.String
            ? license[0].GetString() : null;
}
