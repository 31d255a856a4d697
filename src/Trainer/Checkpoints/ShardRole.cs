using Z1Coder.Trainer.Model;

namespace Z1Coder.Trainer.Checkpoints;

/// <summary>One kind of state that every parameter has, in files of its own.</summary>
/// <param name="Name">of the files: letters and '-', e.g. first-moments</param>
/// <param name="Values">this rank's shard</param>
public sealed record ShardRole(string Name, ShardSet<float> Values)
{
    private const string Extension = ".safetensors";

    /// <summary>The file of one rank: master.00001-of-00004.safetensors.</summary>
    public static string FileName(string role, int rank, int size) => $"{role}.{rank:D5}-of-{size:D5}{Extension}";

    /// <summary>Whether a file holds part of a role: of any rank, or of the layout before there were ranks, master.safetensors.</summary>
    public static bool IsFileOf(string role, string file) =>
        file.StartsWith(role, StringComparison.Ordinal) && file.EndsWith(Extension, StringComparison.Ordinal)
        && (file.Length == role.Length + Extension.Length || file[role.Length] == '.');
}
