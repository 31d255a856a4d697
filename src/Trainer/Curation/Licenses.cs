namespace Z1Coder.Trainer.Curation;

/// <summary>Which licence code is under, by what it says itself. Anything not recognised for certain is "unknown".</summary>
public static class Licenses
{
    /// <summary>Said of code whose licence is not recognised.</summary>
    public const string Unknown = "unknown";

    /// <summary>Permissive licences: taken unless told otherwise.</summary>
    public static IReadOnlyList<string> Permissive { get; } = ["MIT", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "ISC", "Unlicense",
        "CC0-1.0", "0BSD", "Zlib", "PSF-2.0"];

    private static readonly string[] s_names = ["LICENSE", "LICENSE.txt", "LICENSE.md", "LICENCE", "LICENCE.txt", "COPYING",
        "COPYING.txt", "UNLICENSE"];

    /// <summary>The SPDX id that a file names near its head, or null.</summary>
    public static string? OfHeader(string source)
    {
        ArgumentNullException.ThrowIfNull(source);
        const string Key = "SPDX-License-Identifier:";
        var head = source.AsSpan(0, Math.Min(source.Length, 4096));
        var at = head.IndexOf(Key, StringComparison.Ordinal);
        if (at < 0)
        {
            return null;
        }

        var rest = head[(at + Key.Length)..];
        var end = rest.IndexOf('\n');
        return (end < 0 ? rest : rest[..end]).Trim().TrimEnd("*/ ").ToString();
    }

    /// <summary>The licence of the nearest licence file, from <paramref name="directory"/> up to <paramref name="root"/>.</summary>
    public static string OfDirectory(string directory, string root)
    {
        for (var folder = Path.GetFullPath(directory); ; folder = Path.GetDirectoryName(folder)!)
        {
            foreach (var path in s_names.Select(name => Path.Combine(folder, name)).Where(File.Exists))
            {
                return OfText(File.ReadAllText(path));
            }

            if (folder.Length <= Path.GetFullPath(root).Length || Path.GetDirectoryName(folder) is null)
            {
                return Unknown;
            }
        }
    }

    /// <summary>The licence that a licence file's text is.</summary>
    public static string OfText(string text)
    {
        ArgumentNullException.ThrowIfNull(text);
        var words = string.Join(' ', text.Split((char[]?)null, StringSplitOptions.RemoveEmptyEntries)).ToUpperInvariant();
        bool Has(string phrase) => words.Contains(phrase.ToUpperInvariant(), StringComparison.Ordinal);
        return Has("PYTHON SOFTWARE FOUNDATION LICENSE VERSION 2") ? "PSF-2.0"          // first: it speaks of the GPL too
            : Has("GNU AFFERO GENERAL PUBLIC LICENSE") ? "AGPL"
            : Has("GNU LESSER GENERAL PUBLIC LICENSE") ? "LGPL"
            : Has("GNU GENERAL PUBLIC LICENSE") ? "GPL"
            : Has("Mozilla Public License") ? "MPL"
            : Has("Apache License") && Has("Version 2.0") ? "Apache-2.0"
            : Has("Permission is hereby granted, free of charge, to any person obtaining a copy") ? "MIT"
            : Has("Redistribution and use in source and binary forms") ? Has("Neither the name") ? "BSD-3-Clause" : "BSD-2-Clause"
            : Has("Permission to use, copy, modify, and/or distribute this software for any purpose") ? Has("above copyright notice")
                ? "ISC" : "0BSD"
            : Has("This is free and unencumbered software released into the public domain") ? "Unlicense"
            : Has("CC0 1.0 Universal") ? "CC0-1.0"
            : Unknown;
    }
}
