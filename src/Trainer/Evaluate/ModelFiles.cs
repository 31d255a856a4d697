using System.Security.Cryptography;
using System.Text;
using Z1Coder.Trainer.Data;

namespace Z1Coder.Trainer.Evaluate;

/// <summary>A hash of files by what they hold.</summary>
internal static class ModelFiles
{
    private static readonly string[] s_names =
        ["config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"];

    /// <summary>Of everything in a model directory that decides an answer: weights, shapes, tokenizer and template.</summary>
    internal static string HashOf(string directory) => HashOf(
    [
        .. s_names.Select(n => Path.Combine(directory, n)).Where(File.Exists),
        .. Directory.EnumerateFiles(directory, "*.safetensors").Order(StringComparer.Ordinal),
    ]);

    /// <summary>SHA-256 over name and content of each file, in the order given.</summary>
    /// <exception cref="InvalidInputException">One cannot be read.</exception>
    internal static string HashOf(IReadOnlyList<string> paths)
    {
        using var all = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        foreach (var path in paths)
        {
            try
            {
                using var file = new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.Read, 1 << 20, FileOptions.SequentialScan);
                all.AppendData(SHA256.HashData(Encoding.UTF8.GetBytes(Path.GetFileName(path))));
                all.AppendData(SHA256.HashData(file));
            }
            catch (Exception e) when (e is IOException or UnauthorizedAccessException)
            {
                throw new InvalidInputException($"{path} cannot be read: {e.Message}", e);
            }
        }

        return Convert.ToHexStringLower(all.GetHashAndReset());
    }
}
