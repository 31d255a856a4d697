namespace Z1Coder.Runtime;

/// <summary>The oneDNN of this process: looked for once, at first use.</summary>
internal static class OneDnn
{
    /// <summary>A path to load instead of the loader's choice, or "off".</summary>
    public const string Variable = "Z1_ONEDNN";

    private static readonly Lazy<(OneDnnLibrary? Library, string Description)> s_found =
        new(() => (TryLoad(Environment.GetEnvironmentVariable(Variable), out var description), description));

    /// <summary>The library, or null when it is absent, unusable or switched off.</summary>
    public static OneDnnLibrary? Library => s_found.Value.Library;

    /// <summary>One sentence: path, version and instruction set, or what to install.</summary>
    public static string Description => s_found.Value.Description;

    /// <summary>Loads oneDNN from a path; null or empty leaves the choice to the loader, "off" loads nothing.</summary>
    public static OneDnnLibrary? TryLoad(string? chosen, out string description)
    {
        var opened = NativeLibraries.OpenAs(chosen, Variable, "libdnnl.so.3", "libdnnl.so.2", "libdnnl.so");
        if (opened.Handle == 0)
        {
            description = $"oneDNN: {opened.NameOrReason}; matrix products run on the managed fp32 code "
                + $"(for bf16 speed install libdnnl-dev, or set {Variable} to the path of libdnnl.so).";
            return null;
        }

        var library = OneDnnLibrary.TryBind(opened.Handle, out var problem);
        description = library is null
            ? $"oneDNN: {opened.NameOrReason} cannot be used ({problem}); matrix products run on the managed fp32 code."
            : $"oneDNN: {library.Version} at {library.Path ?? opened.NameOrReason}, instruction set {library.InstructionSet}, "
                + $"bf16 {(library.SupportsBFloat16 ? "yes" : "no")}.";
        return library;
    }
}
